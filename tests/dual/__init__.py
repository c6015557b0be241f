"""Tests of `bounds.dual`."""
