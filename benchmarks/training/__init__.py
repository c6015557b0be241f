"""A training step beside the predecessor's, and how far projections are off."""
