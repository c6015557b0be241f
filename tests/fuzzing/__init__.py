"""Damaged files for every reader: each is read, or refused by a BoundsError, quickly and in little
memory. `python -m tests.fuzzing KIND --cases 100000 --seed 0` runs as many as are asked for.
"""
