"""torch modules, by calling their own forward."""
