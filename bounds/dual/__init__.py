"""Evaluating a relaxation from both sides: the dual function, and feasible points."""
