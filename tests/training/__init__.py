"""Tests of `bounds.training`."""
