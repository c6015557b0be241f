"""The LP optimum by a batched interior point on the LP of the unstable neurons."""
