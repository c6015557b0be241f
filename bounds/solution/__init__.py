"""What a method returns: bounds, certificates, verdicts, and what rounding takes off them."""
