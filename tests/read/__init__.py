"""Tests of `bounds.read`."""
