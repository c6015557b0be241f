"""Proves the claims of a saved certificate again, or says which of them do not follow.

What it computes shares no code with the solver: `certificate` is the proof, `arithmetic` the
numbers it is computed in.
"""

from bounds.checker.certificate import Check, Rejection, check

__all__ = ["Check", "Rejection", "check"]
