"""Tests of `bounds.certification`."""
