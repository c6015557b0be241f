"""What all benchmarks share: the machine, journals, processes."""
