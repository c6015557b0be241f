"""Intervals of outputs, certified radii, and audits."""
