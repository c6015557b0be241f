"""Branch and bound on the phases of ReLUs, whose nodes are bounded by warm LPs."""
