"""Fixed slope, exact and cvxpy side by side on the same LPs: what `bounds compare` runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

import lp_reference
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.solution import Solution
from bounds.solution.status import Status
from bounds.solvers.solve import solve

#: The largest |exact − LP| that counts as agreement, in units of max(1, |LP|).
AGREEMENT = 1e-6

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Three answers to the same LPs, and the seconds that each took."""

    model: str
    relaxation: Relaxation
    fixed_slope: Solution
    exact: Solution
    lp: lp_reference.ReferenceSolution
    seconds: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        """One record an LP, as the JSON has them; what is not a finite number is None."""
        batch, count = self.exact.lower.shape
        gap, records = self.exact.gap, []
        for i in range(batch):
            for j in range(count):
                lower, lp = float(self.exact.lower[i, j]), float(self.lp.value[i, j])
                records.append(
                    {
                        "input": i,
                        "row": j,
                        "fixed_slope": _finite(self.fixed_slope.lower[i, j]),
                        "exact_lower": _finite(lower),
                        "exact_upper": _finite(self.exact.upper[i, j]),
                        "gap": _finite(gap[i, j]),
                        "status": Status(int(self.exact.status[i, j])).name.lower(),
                        "lp": _finite(lp),
                        "lp_status": str(self.lp.status[i, j]),
                        "difference": _finite(lower - lp),
                    }
                )
        return records

    def agrees(self, record: dict[str, Any]) -> bool:
        """Whether both solvers say optimal and their answers are the same number."""
        return (
            record["status"] == "optimal"
            and record["lp_status"] == "optimal"
            and record["difference"] is not None
            and abs(record["difference"]) <= AGREEMENT * max(1.0, abs(record["lp"]))
        )

    def to_json(self) -> dict[str, Any]:
        rows = self.rows()
        differences = [abs(r["difference"]) for r in rows if r["difference"] is not None]
        return {
            "model": self.model,
            "relaxation": {
                "inputs": len(self.relaxation.input_set),
                "rows": self.relaxation.C.shape[1],
                "unstable": list(self.relaxation.unstable),
                "intermediate": self.relaxation.intermediate,
            },
            "rows": rows,
            "seconds": self.seconds,
            # A missing answer is no agreement, so it has no largest difference either.
            "max_difference": max(differences) if len(differences) == len(rows) else None,
        }


def compare(
    model: str, network: Network, ball: Ball | Box, specification: Specification
) -> Comparison:
    """Relax once, then answer the same LPs by one backward pass, by the exact method and by cvxpy.

    model: a name for the report. Both of our methods run once beforehand, so that the times are
    those of a warm process.
    """
    with torch.no_grad():
        relaxation, relax_seconds = _timed(lambda: relax(network, ball, specification))
        solve(relaxation, method="fixed_slope")
        fixed_slope, fixed_seconds = _timed(lambda: solve(relaxation, method="fixed_slope"))
        solve(relaxation, method="exact", iteration_limit=2)
        exact, exact_seconds = _timed(lambda: solve(relaxation, method="exact"))
        lp, lp_seconds = _timed(lambda: lp_reference.solve(relaxation))
    seconds = {
        "relax": relax_seconds,
        "fixed_slope": fixed_seconds,
        "exact": exact_seconds,
        "lp": lp_seconds,
    }
    return Comparison(model, relaxation, fixed_slope, exact, lp, seconds)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    _synchronise()
    start = time.perf_counter()
    result = work()
    _synchronise()
    return result, time.perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
