"""Fixed slope, exact dual and cvxpy side by side."""
