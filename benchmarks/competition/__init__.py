"""Properties of VNN-COMP, and what is known of them."""
