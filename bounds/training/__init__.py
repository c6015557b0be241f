"""Provably robust training: losses, cascades, the schedule of the radius."""
