"""Rows of the table for convex_adversarial."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import bounds
import lp_reference
from bounds import Ball, Specification
from tests.support.coming_from.rows import CLASSES, EPS, INPUTS, inputs, model, relaxed, row, same


def their_loss(there: ModuleType, **options: Any) -> tuple[Tensor, Tensor]:
    x, y = inputs()
    return there.robust_loss(model(), EPS, x, y, **options)


@row("convex_adversarial", "`robust_loss(net, epsilon, X, y)`")
def loss(there: ModuleType | None) -> None:
    x, y = inputs()
    loss, error = bounds.robust_loss(model(), x, y, radius=EPS)
    own = torch.full((5,), EPS).double()
    for radius in (own, own.unsqueeze(1).expand(5, INPUTS)):  # one an input, one a coordinate
        same(bounds.robust_loss(model(), x, y, radius=radius).loss, loss)
    if there is not None:
        for ours, theirs in zip((loss, error), their_loss(there), strict=True):
            same(ours.detach(), theirs)


@row("convex_adversarial", "`size_average=True`")
def size_average(there: ModuleType | None) -> None:
    x, y = inputs()
    for average, reduction in ((True, "mean"), (False, "none")):
        ours = bounds.robust_loss(model(), x, y, radius=EPS, reduction=reduction)  # type: ignore[arg-type]
        assert isinstance(ours.error, Tensor)
        if there is not None:
            loss, error = their_loss(there, size_average=average)
            same(ours.loss.detach(), loss.detach())
            same(ours.error.double(), error)


@row("convex_adversarial", "`parallel`")
def parallel(there: ModuleType | None) -> None:
    x, y = inputs()
    whole = bounds.robust_loss(model(), x, y, radius=EPS).loss
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(bounds.RobustLoss(model()))
        same(parallel(x, y, radius=EPS).loss, whole.detach())
    finally:
        dist.destroy_process_group()
    if there is not None:
        dual = there.DualNetwork(model(), x, EPS, data_parallel=False)
        first = bounds.solve(relaxed(), method="fixed_slope", max_memory=2**12)
        same(first.lower, dual(bounds.margins(y, CLASSES).C).detach())


@row("convex_adversarial", '`norm_type="l1"`')
def norms(there: ModuleType | None) -> None:
    x, y = inputs()
    for name, norm in (("l1", math.inf), ("l2", 2), (None, 1)):
        loss = bounds.robust_loss(model(), x, y, radius=EPS, norm=norm).loss
        assert torch.isfinite(loss)
        if there is not None and name is not None:
            same(loss.detach(), their_loss(there, norm_type=name)[0].detach())


@row("convex_adversarial", '`norm_type="l1_median"`')
def projections(there: ModuleType | None) -> None:
    """Estimates, by vectors of their own: theirs are fewer than the inputs, or it refuses."""
    x, y = inputs()
    for name, norm in (("l1_median", math.inf), ("l2_normal", 2)):
        torch.manual_seed(0)
        true = bounds.robust_loss(model(), x, y, radius=EPS, norm=norm).loss.item()
        loss = bounds.robust_loss(model(), x, y, radius=EPS, norm=norm, projection=500).loss.item()
        assert loss == pytest.approx(true, rel=0.2)
        if there is not None:
            assert torch.isfinite(their_loss(there, norm_type=name, proj=INPUTS - 1)[0])


@row("convex_adversarial", "`bounded_input=True`")
def boxes(there: ModuleType | None) -> None:
    x, y = inputs()
    box = {"lower": 0.0, "upper": 1.0}
    loss = bounds.robust_loss(model(), x, y, radius=EPS, **box).loss
    assert loss < bounds.robust_loss(model(), x, y, radius=EPS).loss
    ends = {"lower": torch.zeros(INPUTS).double(), "upper": torch.ones(INPUTS).double()}
    same(bounds.robust_loss(model(), x, y, radius=EPS, **ends).loss.detach(), loss.detach())
    for bounded in (box, {}):
        assert torch.isfinite(bounds.robust_loss(model(), x, y, radius=EPS, norm=2, **bounded).loss)
    if there is not None:
        same(loss.detach(), their_loss(there, bounded_input=True)[0].detach())


@row("convex_adversarial", "`RobustBounds(net, epsilon, **kwargs)(X, y)`")
def robust_bounds(there: ModuleType | None) -> None:
    x, y = inputs()
    loss = bounds.RobustLoss(model())(x, y, radius=EPS).loss
    lower = bounds.solve(relaxed(), method="fixed_slope").lower
    others = torch.ones(5, CLASSES, dtype=torch.bool).scatter(1, y.unsqueeze(1), False)
    values = torch.zeros(5, CLASSES).double().masked_scatter(others, -lower)
    same(nn.functional.cross_entropy(values, y), loss.detach())
    if there is not None:
        same(values, there.RobustBounds(model(), EPS)(x, y).detach())


@row("convex_adversarial", "`DualNetwork(net, X, epsilon)`, `DualNetBounds`")
def dual_network(there: ModuleType | None) -> None:
    """Their l and u are those of passes alone; ours the better of these and boxes, and where boxes
    show that a neuron is stable, no more is asked."""
    x, _ = inputs()
    rows = Specification(torch.eye(CLASSES).double())
    found = bounds.relax(bounds.from_torch(model(), (INPUTS,)), Ball(x, radius=EPS), rows)
    assert len(found.relu_bounds) == 2
    if there is not None:
        for name in ("DualNetwork", "DualNetBounds"):
            dual = getattr(there, name)(model(), x, EPS).dual_net
            layers = [layer for layer in dual if hasattr(layer, "zl")]
            for ours, theirs in zip(found.relu_bounds, layers, strict=True):
                assert (ours.lower >= theirs.zl - 1e-9)[ours.unstable].all()
                assert (ours.upper <= theirs.zu + 1e-9)[ours.unstable].all()
            same(found.relu_bounds[0].lower.detach(), layers[0].zl.detach())
            same(found.relu_bounds[0].upper.detach(), layers[0].zu.detach())


@row("convex_adversarial", "`DualNetwork(…)(c)`, `.g(c)`")
def dual_value(there: ModuleType | None) -> None:
    x, y = inputs()
    first = bounds.solve(relaxed(), method="fixed_slope").lower
    optimum = bounds.solve(relaxed(), method="exact").lower
    same(optimum, lp_reference.solve(relaxed()).value)
    assert (optimum >= first - 1e-9).all()
    if there is not None:
        c = bounds.margins(y, CLASSES).C
        same(first, there.DualNetwork(model(), x, EPS)(c).detach())
        same(first, there.DualNetBounds(model(), x, EPS).g(c).detach())


class Skip(nn.Module):
    """Its output sees its input, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.last = nn.Linear(INPUTS, 6), nn.Linear(6, CLASSES)
        self.beside = nn.Linear(INPUTS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x))) + self.beside(x)


@row("convex_adversarial", "`Dense(*Ws)`")
def dense(there: ModuleType | None) -> None:
    x, y = inputs()
    skip = Skip().double()
    relaxation = bounds.relax(
        bounds.from_torch(skip, (INPUTS,)), Ball(x, radius=EPS), bounds.margins(y, CLASSES)
    )
    lower = bounds.solve(relaxation, method="fixed_slope").lower
    assert torch.isfinite(lower).all()
    if there is not None:
        dense = there.Dense(skip.beside, None, skip.last)
        theirs = there.DenseSequential(there.Dense(skip.first), nn.ReLU(), dense)
        same(skip(x), theirs(x))
        dual = there.DualNetwork(theirs, x, EPS)(bounds.margins(y, CLASSES).C)
        same(lower.detach(), dual.detach())


@row("convex_adversarial", "`epsilon_from_model(model, X, k, delta, m)`")
def epsilon_from_model(there: ModuleType | None) -> None:
    assert not hasattr(bounds, "epsilon_from_model")
    if there is not None:
        assert hasattr(there, "epsilon_from_model")


@row("convex_adversarial", "`examples/`")
def examples(there: ModuleType | None) -> None:
    x, y = inputs()
    for attack in (bounds.fgs, bounds.pgd):
        moved = attack(model(), x, y, radius=EPS, lower=0.0, upper=1.0)
        assert ((moved - x).abs() <= EPS + 1e-9).all()
        assert ((moved >= 0) & (moved <= 1)).all()
    answer = bounds.cascade([model(), model()], x, radius=0.01)
    assert answer.wrong(y).shape == (5,)
    schedule = bounds.RadiusSchedule(start=0.01, end=EPS, length=10)
    assert 0.01 < schedule(5) < EPS
