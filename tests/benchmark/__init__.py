"""Whole benchmarks: lists of instances, processes, results and comparisons."""
