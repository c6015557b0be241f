"""Tests of the referee, `lp_reference`."""
