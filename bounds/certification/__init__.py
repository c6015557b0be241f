"""Verdicts: proofs by bounds, and counterexamples that were replayed."""

from bounds.certification.data_set import certify
from bounds.certification.properties import certify_vnnlib
from bounds.certification.queries import Answer, verify
from bounds.certification.run import Certification

__all__ = ["Answer", "Certification", "certify", "certify_vnnlib", "verify"]
