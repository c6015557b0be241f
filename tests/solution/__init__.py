"""Tests of `bounds.solution`."""
