"""Time limits: what is known when the time is up is returned, valid and said to be cut short.

The clock is one that moves on by itself whenever it is looked at, so that nothing depends on how
fast the machine is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

import bounds
from bounds import Relaxation, Status, deadline
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.slopes.ascent import SlopeAscent
from tests.support.referee import random_net

Looks = Callable[[], None]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Call it to let a second pass with every look at the clock: a limit of n seconds ends after n
    looks."""

    def start() -> None:
        ticks = itertools.count()
        clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
        monkeypatch.setattr(deadline, "time", clock)

    return start


def problem() -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    ).detach()
    ball = bounds.Ball(images[:3].double(), radius=0.1, lower=0.0, upper=1.0)
    return network, ball, bounds.margins(labels[:3], 10)


def outside(relaxation: Relaxation) -> int:
    """How many pre-activations of random points leave l and u."""
    generator, box = torch.Generator().manual_seed(0), relaxation.input_set
    count = 0
    for _ in range(50):
        share = torch.rand(box.lower.shape, generator=generator, dtype=torch.float64)
        found: list[torch.Tensor] = []

        def relu(_: int, pre: torch.Tensor, found: list[torch.Tensor] = found) -> torch.Tensor:
            found.append(pre)
            return pre.clamp(min=0)

        relaxation.network.evaluate(box.lower + share * (box.upper - box.lower), relu)
        for neurons, pre in zip(relaxation.relu_bounds, found, strict=True):
            count += int(((pre < neurons.lower) | (pre > neurons.upper)).sum())
    return count


@pytest.mark.parametrize("intermediate", ["backward", "optimised", "lp"])
def test_relax_keeps_what_it_has(intermediate: Any, looks: Looks) -> None:
    network, ball, rows = problem()
    whole = bounds.relax(network, ball, rows, intermediate=intermediate, max_memory=2**22)
    boxes = bounds.relax(network, ball, rows, intermediate="interval")
    assert not whole.timed_out
    sizes, seen = [], []
    for limit in (1, 5, 12):
        looks()
        part = bounds.relax(
            network, ball, rows, intermediate=intermediate, max_memory=2**22, time_limit=limit
        )
        seen.append(part.timed_out)
        assert outside(part) == 0
        sizes.append(sum(part.unstable))
        for one, box in zip(part.relu_bounds, boxes.relu_bounds, strict=True):
            slack = 1e-9
            assert (one.lower >= box.lower - slack).all()
            assert (one.upper <= box.upper + slack).all()
    assert seen[0]
    assert sum(boxes.unstable) >= sizes[0] >= sizes[-1] >= sum(whole.unstable)


def test_relax_looks_at_the_clock_while_it_optimises_slopes(looks: Looks) -> None:
    problem_ = problem()
    with mock.patch.object(
        SlopeAscent, "advance", autospec=True, side_effect=SlopeAscent.advance
    ) as advance:
        looks()
        bounds.relax(*problem_, intermediate="optimised", time_limit=12)
    assert 0 < advance.call_count < 12


def test_relax_looks_at_the_clock_where_gradients_are_kept(looks: Looks) -> None:
    _, ball, rows = problem()
    model = load_digits_model("digits_standard").double().requires_grad_(True)
    network = bounds.from_torch(model, (1, 8, 8))
    looks()
    relaxation = bounds.relax(network, ball, rows, time_limit=0.5)
    assert relaxation.timed_out
    assert (
        relaxation.unstable == bounds.relax(network, ball, rows, intermediate="interval").unstable
    )


@pytest.mark.parametrize("limit", ["5", True, 0, float("nan"), torch.ones(2)])
def test_time_limits(limit: Any) -> None:
    relaxation = bounds.relax(*problem())
    with pytest.raises(bounds.InvalidInputError, match="a positive time in seconds"):
        bounds.relax(*problem(), time_limit=limit)
    with pytest.raises(bounds.InvalidInputError, match="a positive time in seconds"):
        bounds.solve(relaxation, time_limit=limit)


@pytest.mark.parametrize("method", ["interior_point", "simplex", "pdhg", "optimised_slope"])
@pytest.mark.parametrize("limit", [1, 3, 8])
def test_solve_keeps_what_it_has(method: Any, limit: int, looks: Looks) -> None:
    relaxation = bounds.relax(*problem())
    optimum = bounds.solve(relaxation).lower
    first = bounds.solve(relaxation, method="fixed_slope")
    looks()
    part = bounds.solve(relaxation, method=method, time_limit=limit, tolerance=1e-6)
    assert (part.status == Status.TIME_LIMIT).any()
    assert set(part.status.unique().tolist()) <= {Status.TIME_LIMIT, Status.OPTIMAL}
    slack = 1e-9 * optimum.abs().clamp(min=1)
    assert (part.lower <= optimum + slack).all()
    assert (part.upper >= optimum - slack).all()
    assert (part.lower >= first.lower - slack).all()


def test_the_interior_point_may_end_before_it_has_its_matrices(looks: Looks) -> None:
    """One look for the deadline itself, one at the first block of rows: that is late already."""
    relaxation = bounds.relax(*problem())
    looks()
    part = bounds.solve(relaxation, method="interior_point", time_limit=0.5)
    assert (part.iterations == 0).all()
    assert torch.isfinite(part.lower).all()
    assert torch.isfinite(part.upper).all()


def test_certify_hands_its_time_to_relax(looks: Looks) -> None:
    """What is left after the bounds were cut short is unknown, or proved all the same."""
    images, labels = load_digits_images()
    model = load_digits_model("digits_standard").double()
    options: dict[str, Any] = {"radius": 0.05, "lower": 0.0, "upper": 1.0}
    whole = bounds.certify(model, images[:4].double(), labels[:4], **options)
    looks()
    part = bounds.certify(model, images[:4].double(), labels[:4], **options, timeout=6)
    assert "unknown" in part.verdicts
    for short, long in zip(part.verdicts, whole.verdicts, strict=True):
        assert short in ("unknown", long)


@pytest.mark.parametrize("call", ["certify", "minimum", "audit", "radius", "bounds", "one pass"])
def test_the_time_may_run_out_between_any_two_steps(call: str, looks: Looks) -> None:
    """Which leaves no time at all for the next one, and is no error."""
    network, x = random_net(3, 8, 8, 2, seed=3), torch.zeros(1, 3).double()
    box, rows = bounds.Box(x - 1, x + 1), bounds.margins(0, 2)
    true = bounds.output_bounds(network, box)
    claims = {"output": (0.8 * true.lower, 0.8 * true.upper)}
    calls: dict[str, Callable[[float], object]] = {
        "certify": lambda limit: bounds.certify(
            network, x, 0, radius=1.0, timeout=limit, deployed=torch.float32
        ),
        "minimum": lambda limit: bounds.minimum(network, box, rows, time_limit=limit),
        "audit": lambda limit: bounds.audit(network, box, claims, complete=True, time_limit=limit),
        "radius": lambda limit: bounds.certified_radius(network, x, 1, most=1.0, time_limit=limit),
        "bounds": lambda limit: bounds.output_bounds(network, box, time_limit=limit),
        "one pass": lambda limit: bounds.output_bounds(
            network, box, method="fixed_slope", time_limit=limit
        ),
    }
    for limit in range(1, 16):
        looks()
        calls[call](limit - 0.5)


def test_the_radius_is_found_in_time(looks: Looks) -> None:
    """Bounds and attacks look at the clock too."""
    network, x = random_net(3, 2, seed=3), torch.zeros(1, 3).double()
    label = network(x).argmax(1)
    whole = bounds.certified_radius(network, x, label, most=9.0)
    assert math.isfinite(float(whole.refuted))
    looks()
    part = bounds.certified_radius(network, x, label, most=9.0, time_limit=0.5)
    assert part.refuted.item() == math.inf
    assert part.proved.item() <= whole.proved.item()
