"""What inputs are allowed: boxes, and balls in ℓ∞, ℓ1 and ℓ2 that a box may cut."""
