"""Tests of `bounds.network`."""
