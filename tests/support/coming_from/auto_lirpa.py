"""Rows of the table for auto_LiRPA. Where both are given the same l and u, both say the same."""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import bounds
from bounds import Ball, Box, Specification, cli
from tests.support.coming_from.rows import (
    CLASSES,
    EPS,
    INPUTS,
    inputs,
    model,
    network,
    relaxed,
    row,
    same,
)
from tests.support.onnx_writer import write_chain

TOOL = "auto_LiRPA"


def bounded(there: ModuleType, method: str, *, rows: bool = True, **ball: Any) -> tuple[Any, Any]:
    """Their module after `compute_bounds`, and what that returned: of the margins, or of the
    outputs."""
    x, y = inputs()
    found = there.BoundedModule(copy.deepcopy(model()), x)
    ptb = there.PerturbationLpNorm(**({"norm": math.inf, "eps": EPS} | ball))
    options = {"C": bounds.margins(y, CLASSES).C} if rows else {}
    both = found.compute_bounds(x=(there.BoundedTensor(x, ptb),), method=method, **options)
    return found, both


def layers(found: Any) -> list[tuple[Tensor, Tensor]]:
    """l and u of their ReLUs' inputs."""
    relus = [node for node in found.nodes() if type(node).__name__ == "BoundRelu"]
    return [(relu.inputs[0].lower.detach(), relu.inputs[0].upper.detach()) for relu in relus]


def with_layers(found: Any, relaxation: bounds.Relaxation) -> bounds.Relaxation:
    """The same relaxation with their l and u."""
    given = tuple(bounds.ReluBounds(lower, upper) for lower, upper in layers(found))
    return replace(relaxation, relu_bounds=given, intermediate="given", slope=None)


@row(TOOL, "`BoundedModule(model, x)`")
def module(there: ModuleType | None) -> None:
    x, _ = inputs()
    own = model()
    before = copy.deepcopy(own.state_dict())
    net = bounds.from_torch(own, (INPUTS,))
    same(net(x), model()(x))
    assert all(torch.equal(own.state_dict()[name], before[name]) for name in before)
    if there is not None:
        same(net(x), there.BoundedModule(copy.deepcopy(own), x)(x))


@row(TOOL, "`PerturbationLpNorm(norm=…")
def balls(there: ModuleType | None) -> None:
    x, y = inputs()
    rows = bounds.margins(y, CLASSES)
    sets: list[tuple[dict[str, Any], Ball | Box]] = [
        ({"norm": norm}, Ball(x, radius=EPS, norm=norm)) for norm in (math.inf, 1, 2)
    ]
    low, high = (x - EPS).clamp(0, 1), (x + EPS).clamp(0, 1)
    sets.append(({"x_L": low, "x_U": high}, Box(low, high)))
    sets.append(({"x_L": low, "x_U": high}, Ball(x, radius=EPS, lower=0.0, upper=1.0)))
    for ball, own in sets:
        relaxation = bounds.relax(network(), own, rows, slope="adaptive")
        assert torch.isfinite(bounds.solve(relaxation, method="adaptive_slope").lower).all()
        if there is not None:
            found, (lower, _) = bounded(there, "CROWN", **ball)
            given = with_layers(found, relaxation)
            same(bounds.solve(given, method="adaptive_slope").lower, lower)


@row(TOOL, '`compute_bounds(x=(x,), method="IBP")`')
def intervals(there: ModuleType | None) -> None:
    x, y = inputs()
    found = relaxed(intermediate="interval").relu_bounds
    loss = bounds.interval_loss(model(), x, y, radius=EPS)
    assert torch.isfinite(loss.loss)
    if there is not None:
        theirs, _ = bounded(there, "IBP", rows=False)
        for ours, (low, high) in zip(found, layers(theirs), strict=True):
            same(ours.lower, low)
            same(ours.upper, high)


@row(TOOL, '`method="CROWN"` (`"backward"`)')
def crown(there: ModuleType | None) -> None:
    relaxation = relaxed(slope="adaptive")
    solution = bounds.solve(relaxation, method="adaptive_slope")
    assert (solution.lower <= bounds.solve(relaxation).lower + 1e-9).all()
    if there is not None:
        for name in ("CROWN", "backward"):
            found, (lower, _) = bounded(there, name)
            same(bounds.solve(with_layers(found, relaxation), method="adaptive_slope").lower, lower)
            for ours, (low, high) in zip(relaxation.relu_bounds, layers(found), strict=True):
                assert (ours.lower >= low - 1e-9)[ours.unstable].all()
                assert (ours.upper <= high + 1e-9)[ours.unstable].all()


@row(TOOL, '`method="CROWN-IBP"`')
def crown_ibp(there: ModuleType | None) -> None:
    x, y = inputs()
    lower = bounds.solve(relaxed(intermediate="interval"), method="adaptive_slope").lower
    for fused in (False, True):
        assert torch.isfinite(bounds.crown_ibp_loss(model(), x, y, radius=EPS, fused=fused).loss)
    if there is not None:
        same(lower, bounded(there, "CROWN-IBP")[1][0])


@row(TOOL, '`method="CROWN-Optimized"` (α-CROWN)')
def optimised(there: ModuleType | None) -> None:
    """Theirs ends after so many steps; neither goes beyond the LP with LP-optimal l and u."""
    relaxation = relaxed(intermediate="optimised")
    solution = bounds.solve(relaxation, method="optimised_slope")
    assert (solution.relative_gap <= 1e-3).all()
    best = bounds.solve(relaxed(intermediate="lp")).upper + 1e-9
    assert (solution.lower <= best).all()
    if there is not None:
        lower = bounded(there, "CROWN-Optimized")[1][0].detach()
        assert (lower <= best).all()
        assert (lower >= bounds.solve(relaxed(), method="fixed_slope").lower - 1e-9).any()


@row(TOOL, "`C=`")
def rows(there: ModuleType | None) -> None:
    x, y = inputs()
    C = bounds.margins(y, CLASSES).C
    found = bounds.relax(network(), Ball(x, radius=EPS), Specification(C), slope="adaptive")
    assert torch.equal(found.C, relaxed().C)
    if there is not None:
        theirs, (lower, _) = bounded(there, "CROWN")
        same(bounds.solve(with_layers(theirs, found), method="adaptive_slope").lower, lower)


@row(TOOL, "lower and upper bounds of outputs")
def outputs(there: ModuleType | None) -> None:
    """At our l and u, which are the better of theirs and boxes."""
    x, _ = inputs()
    net, ball = network(), Ball(x, radius=EPS)
    found = bounds.output_bounds(net, ball, method="adaptive_slope")
    best = bounds.output_bounds(net, ball, method="exact")
    assert (found.lower <= best.lower + 1e-9).all()
    assert (found.upper >= best.upper - 1e-9).all()
    if there is not None:
        theirs, (lower, upper) = bounded(there, "CROWN", rows=False)
        relaxation = bounds.relax(net, ball, Specification(torch.eye(CLASSES).double()))
        given = with_layers(theirs, relaxation)
        same(bounds.solve(given, method="adaptive_slope").lower, lower)
        negative = replace(given, C=-given.C, d=-given.d)
        same(-bounds.solve(negative, method="adaptive_slope").lower, upper)


@row(TOOL, "`interm_bounds=`, bounds of a layer")
def intermediate(there: ModuleType | None) -> None:
    """Those that were given to the tool, and those that it found."""
    relaxation = relaxed(slope="adaptive")
    names = [layer.name for layer in relaxation.layers]
    for layer, neurons in zip(relaxation.layers, relaxation.relu_bounds, strict=True):
        same(torch.from_numpy(layer.lower), neurons.lower)
    claims = dict(zip(names, relaxation.relu_bounds, strict=True))
    assert len(claims) == 2
    if there is not None:
        found, _ = bounded(there, "CROWN")
        read = bounds.claims_of_auto_lirpa(network(), model=found)
        assert list(read.ends) == names
        relus = [node for node in found.nodes() if type(node).__name__ == "BoundRelu"]
        x, y = inputs()
        ptb = there.PerturbationLpNorm(norm=math.inf, eps=EPS)
        given = {
            relu.inputs[0].name: [neurons.lower, neurons.upper]
            for relu, neurons in zip(relus, relaxation.relu_bounds, strict=True)
        }
        lower, _ = found.compute_bounds(
            x=(there.BoundedTensor(x, ptb),),
            C=bounds.margins(y, CLASSES).C,
            method="CROWN",
            interm_bounds=given,
        )
        same(bounds.solve(relaxation, method="adaptive_slope").lower, lower)


@row(TOOL, "α,β-CROWN with a configuration file")
def complete(_: ModuleType | None) -> None:
    """Which is another program than auto_LiRPA."""
    unsafe = "".join(f"(declare-const X_{i} Real)\n" for i in range(INPUTS))
    unsafe += "".join(f"(declare-const Y_{i} Real)\n" for i in range(CLASSES))
    for i in range(INPUTS):
        unsafe += f"(assert (>= X_{i} 0))\n(assert (<= X_{i} 0.1))\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx = write_chain(model(), (INPUTS,), folder / "model.onnx")
        spec = folder / "spec.vnnlib"
        for bound, status in ((1e3, 0), (-1e3, 1)):
            spec.write_text(unsafe + f"(assert (>= Y_0 {bound}))\n")
            arguments = ["certify", str(onnx), "--vnnlib", str(spec), "--timeout", "60"]
            assert cli.main(arguments) == status
