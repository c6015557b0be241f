"""What a network is: a graph of affine operations, sums and ReLUs, and how it is built."""
