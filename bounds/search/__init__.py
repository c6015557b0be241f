"""Complete verification by branch and bound: a set is split until every part is decided."""
