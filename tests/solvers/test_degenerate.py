"""LPs that are easy to state and hard to end: optimum 0, triangles without width, no ReLU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.compare.compare import compare

EXACT = ("interior_point", "simplex", "pdhg", "exact")
FEW = 3000


def relaxation(
    model: nn.Module, *shape: int, norm: float = math.inf, radius: float = 0.1, **options: Any
) -> Relaxation:
    """Over a ball around a random point; the rows are the outputs."""
    network = bounds.from_torch(model.requires_grad_(False), shape, dtype=torch.float64)
    ball = bounds.Ball(torch.rand(1, *shape, dtype=torch.float64), radius=radius, norm=norm)
    outputs = math.prod(network.output_shape)
    rows = bounds.Specification(torch.eye(outputs, dtype=torch.float64))
    return bounds.relax(network, ball, rows, **options)


def ending_in_relu() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    return nn.Sequential(*layers, nn.ReLU())


@pytest.mark.parametrize(
    ("method", "norm"),
    [(method, math.inf) for method in (*EXACT, "optimised_slope")] + [("exact", 1), ("exact", 2)],
)
def test_an_optimum_of_0_is_found(method: Any, norm: float) -> None:
    """The outputs that a ReLU can make 0: bounds and multipliers vanish, and their rounding."""
    problem = relaxation(ending_in_relu(), 20, norm=norm)
    optimum = torch.from_numpy(lp_reference.solve(problem).value)
    assert (optimum.abs() < 1e-9).sum() >= 3
    solution = bounds.solve(problem, method=method, iteration_limit=FEW)
    assert (solution.status == Status.OPTIMAL).all(), (solution.status, solution.gap)
    tolerance = 1e-3 * optimum.abs() if method == "optimised_slope" else 1e-6
    assert ((solution.lower - optimum).abs() <= tolerance + 1e-6).all()


def test_comparing_a_network_that_ends_in_a_relu_agrees() -> None:
    network = bounds.from_torch(ending_in_relu(), (20,), dtype=torch.float64)
    ball = bounds.Ball(torch.rand(1, 20, dtype=torch.float64), radius=0.1)
    rows = bounds.Specification(torch.eye(10, dtype=torch.float64))
    comparison = compare("ends in a ReLU", network, ball, rows)
    assert all(comparison.agrees(record) for record in comparison.rows()), comparison.rows()


def test_a_gap_is_not_closed_by_the_scale_alone() -> None:
    """Rows of size 1e-3 on a network of size 1e3 are still solved, to their own size."""
    problem = relaxation(ending_in_relu(), 20)
    small = bounds.Specification(1e-6 * torch.eye(10, dtype=torch.float64))
    C, d = small.resolve(1, (10,), problem.C)
    scaled = Relaxation(problem.network, problem.input_set, C, d, problem.relu_bounds, "backward")
    whole, part = bounds.solve(problem).lower, bounds.solve(scaled).lower
    torch.testing.assert_close(part, 1e-6 * whole, rtol=1e-8, atol=1e-20)


class Padded(nn.Module):
    """1×1 convolutions see the padding, and replicated borders see one number several times."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, padding=1, padding_mode=mode)
        self.last = nn.Linear(2 * 4 * 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.max_pool2d(self.conv(x), 2, 1).relu().flatten(1))


NARROW: dict[str, Any] = {
    "upsampling": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(16, 2)
    ),
    "replicated": lambda: Padded("replicate"),
    "padded": lambda: Padded("zeros"),
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("norm", [2, math.inf])
def test_triangles_without_width_do_not_stall(name: str, norm: float) -> None:
    """Where equal numbers are compared, ẑ is 0 but for rounding."""
    for seed in range(2):
        torch.manual_seed(seed)
        shape = (1, 2, 2) if name == "upsampling" else (1, 3, 3)
        model = NARROW[name]()
        if name == "upsampling":
            model[3] = nn.Linear(9, 2)
        problem = relaxation(model, *shape, norm=norm, radius=0.2)
        widths = torch.cat([(k.upper - k.lower)[k.unstable] for k in problem.relu_bounds])
        assert name == "padded" or float(widths.min()) < 1e-10
        optimum = torch.from_numpy(lp_reference.solve(problem).value)
        methods: tuple[Any, ...] = ("pdhg",) if norm == 2 else ("pdhg", "simplex")
        for method in methods:
            solution = bounds.solve(problem, method=method, iteration_limit=FEW)
            assert (solution.status == Status.OPTIMAL).all(), (solution.status, solution.gap)
            torch.testing.assert_close(solution.lower, optimum, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [*EXACT, "optimised_slope"])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_networks_without_a_relu(method: Any, norm: float) -> None:
    if method in ("interior_point", "simplex") and norm == 2:
        pytest.skip("for polyhedra only")
    problem = relaxation(nn.Linear(3, 2), 3, norm=norm, intermediate="lp")
    solution = bounds.solve(problem, method=method)
    assert (solution.status == Status.OPTIMAL).all()
    optimum = torch.from_numpy(lp_reference.solve(problem).value)
    torch.testing.assert_close(solution.lower, optimum, rtol=1e-6, atol=1e-6)


class Branches(nn.Module):
    """Two ReLUs side by side, neither of which depends on the other, and a third one above."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(5, 4)
        self.above, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).relu()
        return self.last(self.above(self.a(h).relu() + self.b(h).relu()).relu())


@pytest.mark.parametrize("intermediate", ["optimised", "lp"])
def test_branches_that_do_not_depend_on_each_other(intermediate: str) -> None:
    torch.manual_seed(0)
    model = Branches()
    problem = relaxation(model, 3, radius=1.0, intermediate=intermediate)
    looser = relaxation(model, 3, radius=1.0)
    assert problem.unsolved in ((), (0,))
    for tight, loose in zip(problem.relu_bounds, looser.relu_bounds, strict=True):
        assert tight.lower.shape == loose.lower.shape
    x = problem.input_set.lower + torch.rand(500, 3).double() * (
        problem.input_set.upper - problem.input_set.lower
    )
    found: list[torch.Tensor] = []

    def relu(_: int, pre: torch.Tensor) -> torch.Tensor:
        found.append(pre)
        return pre.clamp(min=0)

    problem.network.evaluate(x, relu)
    for neurons, pre in zip(problem.relu_bounds, found, strict=True):
        assert (neurons.lower <= pre).all()
        assert (pre <= neurons.upper).all()
