"""The linear program as data: rows, input set, and one triangle a neuron."""
