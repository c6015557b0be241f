"""Tests of `bounds.checker`."""
