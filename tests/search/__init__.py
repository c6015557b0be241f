"""Branch and bound: domains, bounds, cuts, and whole searches."""
