"""Proves the claims of a saved certificate or proof again, or says which of them do not follow.

What it computes shares no code with the solver and the search: `certificate` and `proof` are the
proofs, `arithmetic` and `floats` the numbers they are computed in.
"""

from bounds.checker.certificate import Check, Rejection, check
from bounds.checker.proof import ProofCheck, ProvedCase, check_proof

__all__ = ["Check", "ProofCheck", "ProvedCase", "Rejection", "check", "check_proof"]
