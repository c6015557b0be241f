"""Drawn tests with many examples and other seeds, and the corpus of what these found."""
