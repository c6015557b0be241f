"""The table of what is timed: our methods, and the peers' beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import bounds
from benchmarks.exact.direct_solvers import DIRECT
from benchmarks.exact.exact_lp import CONDENSED
from benchmarks.measure import peers
from benchmarks.measure.protocol import Method, Work, at_once
from benchmarks.measure.workloads import Problem


def relaxing(**options: Any) -> Callable[[Problem], Work]:
    return lambda problem: at_once(lambda: torch.tensor(problem.relax(**options).unstable))


def bounding(method: Any, **options: Any) -> Callable[[Problem], Work]:
    def prepare(problem: Problem) -> Work:
        return at_once(lambda: bounds.solve(problem.relax(**options), method=method).lower)

    return prepare


def solving(method: Any, *, exact: bool = False, **options: Any) -> Callable[[Problem], Work]:
    """exact: what is not optimal, to the tolerance, counts as failed."""

    def prepare(problem: Problem) -> Work:
        relaxation = problem.lps()

        def call() -> Tensor:
            solution = bounds.solve(relaxation, method=method, **options)
            failed = exact & (solution.status != bounds.Status.OPTIMAL)
            return torch.where(failed, torch.nan, solution.lower)

        return at_once(call)

    return prepare


#: α-CROWN's iterations, where its slopes for the intermediate bounds are optimised too (its own
#: default is 20), and where l and u are given.
PIPELINE_STEPS, LAST_STEPS = 20, 100

METHODS: dict[str, Method] = {
    "relax: interval": Method(
        task="relax", prepare=relaxing(intermediate="interval"), ours="relax: backward"
    ),
    "relax: backward": Method(
        task="relax", prepare=relaxing(intermediate="backward"), ours="relax: backward"
    ),
    "relax: optimised": Method(
        task="relax", prepare=relaxing(intermediate="optimised"), ours="relax: backward"
    ),
    "bound: fixed slope": Method(
        task="bound", prepare=bounding("fixed_slope"), ours="bound: fixed slope"
    ),
    "bound: convex_adversarial": Method(
        task="bound",
        prepare=peers.wong_kolter,
        ours="bound: fixed slope",
        package="convex_adversarial",
    ),
    "bound: adaptive slope": Method(
        task="bound",
        prepare=bounding("adaptive_slope", slope="adaptive"),
        ours="bound: adaptive slope",
    ),
    "bound: auto_LiRPA CROWN": Method(
        task="bound", prepare=peers.crown, ours="bound: adaptive slope", package="auto_LiRPA"
    ),
    "bound: optimised slope": Method(
        task="bound",
        prepare=bounding("optimised_slope", intermediate="optimised"),
        ours="bound: optimised slope",
    ),
    f"bound: auto_LiRPA α-CROWN, {PIPELINE_STEPS} steps": Method(
        task="bound",
        prepare=peers.alpha_crown(PIPELINE_STEPS, given=False),
        ours="bound: optimised slope",
        package="auto_LiRPA",
    ),
    **{
        f"solve: {name}": Method(task="solve", prepare=prepare, ours="solve: exact")
        for name, prepare in {
            "fixed slope": solving("fixed_slope"),
            "adaptive slope": solving("adaptive_slope"),
            "optimised slope to 1e-3": solving("optimised_slope"),
            "pdhg to 1e-3": solving("pdhg", exact=True, tolerance=1e-3),
            "interior point": solving("interior_point", exact=True),
            "simplex": solving("simplex", exact=True),
            "exact": solving("exact", exact=True),
        }.items()
    },
    f"solve: auto_LiRPA α-CROWN, {LAST_STEPS} steps": Method(
        task="solve",
        prepare=peers.alpha_crown(LAST_STEPS, given=True),
        ours="solve: exact",
        package="auto_LiRPA",
    ),
    **{
        f"solve: {name}": Method(task="solve", prepare=prepare, ours="solve: exact", host=True)
        for name, prepare in {
            **{name: peers.direct(name) for name in DIRECT},
            **{
                f"{name}, condensed by us": peers.direct(name, condensing=True)
                for name in CONDENSED
            },
            "cvxpy + HiGHS": peers.modelled("HIGHS"),
            "cvxpy + CLARABEL": peers.modelled("CLARABEL"),
        }.items()
    },
}
