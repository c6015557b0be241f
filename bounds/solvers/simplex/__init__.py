"""The LP optimum by a simplex method that goes on from the vertex of the LP before."""
