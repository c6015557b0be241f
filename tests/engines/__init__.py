"""Tests of `bounds.engines`."""
