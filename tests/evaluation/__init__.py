"""Whole data sets: reading them, evaluating them, reports."""
