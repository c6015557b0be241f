"""The referee: the LPs of a `bounds.Relaxation` by cvxpy, sharing its data and none of its code."""

from lp_reference.assemble import assemble
from lp_reference.residuals import KKTPoint, Residuals, Violations, residuals
from lp_reference.solve import ReferenceSolution, solve
from lp_reference.sparse_lp import SparseLP

__all__ = [
    "KKTPoint",
    "ReferenceSolution",
    "Residuals",
    "SparseLP",
    "Violations",
    "assemble",
    "residuals",
    "solve",
]
