"""Exact LPs: ours beside LP solvers."""
