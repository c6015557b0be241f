"""Tests of `bounds.intermediate`."""
