"""Bounds l and u of every neuron, which make a relaxation of a network."""
