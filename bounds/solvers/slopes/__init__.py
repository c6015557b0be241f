"""Optimised slopes: gradient ascent on the dual function of a backward pass."""
