"""Whole data sets: every image at every radius, in a database that is written as results come."""
