"""Tests of `bounds.sets`."""
