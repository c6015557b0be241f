"""Tests of `bounds.relaxation`."""
