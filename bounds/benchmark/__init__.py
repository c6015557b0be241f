"""Whole benchmarks of the competition VNN-COMP: every instance in a process of its own."""
