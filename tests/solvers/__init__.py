"""Tests of `bounds.solvers`."""
