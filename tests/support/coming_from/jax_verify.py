"""Rows of the table for jax_verify, which reads JAX functions: our side alone."""

from __future__ import annotations

import torch

import bounds
import lp_reference
from tests.support.coming_from.rows import EPS, inputs, model, network, relaxed, row, same

TOOL = "jax_verify"


@row(TOOL, "`IntervalBound(lower, upper)`")
def sets(_: object) -> None:
    x, _y = inputs()
    box = bounds.Box(x - EPS, x + EPS)
    ball = bounds.Ball(x, radius=EPS).resolve((4,))
    same(box.lower, ball.lower)
    same(box.upper, ball.upper)


@row(TOOL, "`interval_bound_propagation(fn, bound)`")
def intervals(_: object) -> None:
    """By hand: the centre, and the radius times |W|."""
    x, _y = inputs()
    first = model()[0]
    found = relaxed(intermediate="interval").relu_bounds[0]
    centre, reach = first(x), EPS * first.weight.abs().sum(1)
    same(found.lower, centre - reach)
    same(found.upper, centre + reach)


@row(TOOL, "`backward_fastlin_bound_propagation`")
def fastlin(_: object) -> None:
    fast = bounds.solve(relaxed(), method="fixed_slope")
    assert (fast.lower <= optimum() + 1e-9).all()


@row(TOOL, "`backward_crown_bound_propagation`")
def crown(_: object) -> None:
    found = bounds.solve(relaxed(slope="adaptive"), method="adaptive_slope")
    assert (found.lower <= true() + 1e-9).all()


@row(TOOL, "`crownibp_bound_propagation`")
def crown_ibp(_: object) -> None:
    found = bounds.solve(relaxed(intermediate="interval"), method="adaptive_slope")
    assert (found.lower <= optimum() + 1e-9).all()


@row(TOOL, "`nonconvex_constopt_bound_propagation`")
def nonconvex(_: object) -> None:
    for method in ("optimised_slope", "pdhg"):
        found = bounds.solve(relaxed(), method=method)  # type: ignore[arg-type]
        assert (found.lower <= optimum() + 1e-9).all()
        assert (found.relative_gap <= 1e-3).all()


@row(TOOL, "`solve_planet_relaxation(…, CvxpySolver)`")
def planet(_: object) -> None:
    same(bounds.solve(relaxed(), method="exact").lower, optimum())


def optimum() -> torch.Tensor:
    return torch.from_numpy(lp_reference.solve(relaxed()).value)


def true() -> torch.Tensor:
    """Of the network at points of the sets: no bound is above."""
    relaxation = relaxed()
    share = torch.rand(200, 1, 4, generator=torch.Generator().manual_seed(0)).double()
    box = relaxation.input_set
    x = box.lower + share * (box.upper - box.lower)
    y = network()(x.flatten(0, 1)).detach().reshape(200, len(box), -1)
    return torch.einsum("bso,nbo->nbs", relaxation.C.flatten(2), y).amin(0)
