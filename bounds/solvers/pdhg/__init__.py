"""The LP optimum by a first-order method that needs no matrix."""
