"""The peers as their users would call them at their best, by the protocol of `methods.Work`.

convex_adversarial and auto_LiRPA are optional: `absent` says how to get them.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.exact import direct_solvers
from benchmarks.exact.direct_solvers import DIRECT, Gurobi, Highs
from benchmarks.measure.protocol import Call, Work, at_once, difference
from benchmarks.measure.workloads import Problem
from bounds.solvers.interior_point.condense import condense

#: How to get the peers that a pip extra cannot bring along with our version of torch.
REMEDIES = {
    "convex_adversarial": 'pip install -e ".[peers]"',
    "auto_LiRPA": 'pip install -e ".[peers]", then PYTHONPATH=$PWD/auto_LiRPA after git clone '
    "https://github.com/Verified-Intelligence/auto_LiRPA (its own installer refuses new torch)",
}


def load(package: str) -> Any:
    """The package; ImportError where it is not there."""
    with warnings.catch_warnings(record=True):  # of what torch has deprecated; filters get reset
        return importlib.import_module(package)


def absent(package: str) -> str:
    """Why the package cannot be used, in one line; nothing if it can."""
    try:
        load(package)
    except ImportError as error:
        return f"{package} is skipped ({error}): {REMEDIES[package]}"
    return ""


def version(package: str) -> str | None:
    """What an imported package says of itself, where it says so; None if it is absent."""
    return None if absent(package) else getattr(load(package), "__version__", "unknown")


def ours_with(problem: Problem, method: Any, lower: list[Tensor], upper: list[Tensor]) -> Tensor:
    """Our bound from a peer's intermediate bounds, without what is taken off for rounding."""
    input_set = problem.region.resolve(problem.network.input_shape)
    C, d = problem.specification.resolve(
        len(input_set), problem.network.output_shape, input_set.lower
    )
    shapes = [(len(C), *problem.network.nodes[k].shape) for k in problem.network.relus]
    given = tuple(
        bounds.ReluBounds(low.reshape(shape), high.reshape(shape))
        for low, high, shape in zip(lower, upper, shapes, strict=True)
    )
    relaxation = bounds.Relaxation(problem.network, input_set, C, d, given)
    return bounds.solve(relaxation, method=method, sound=False).lower


def rows(problem: Problem) -> tuple[Tensor, Tensor]:
    """C, of shape (batch, rows, outputs), and d."""
    return problem.specification.resolve(
        len(problem.centre), problem.network.output_shape, problem.centre
    )


# -- convex_adversarial


def wong_kolter(problem: Problem) -> Work:
    """Its dual network, exact (without random projections), out of the reach of gradients."""
    package, (C, d) = load("convex_adversarial"), rows(problem)
    if not isinstance(problem.model, nn.Sequential):
        raise ValueError("takes no sums of layers")

    @torch.no_grad()
    def build() -> tuple[Any, Tensor]:
        dual = package.DualNetwork(problem.model, problem.centre, problem.radius)
        return dual, dual(C) + d

    def check() -> float:
        dual, value = build()
        relus = [layer for layer in dual.dual_net if type(layer).__name__ == "DualReLU"]
        lower, upper = [layer.zl for layer in relus], [layer.zu for layer in relus]
        return difference(value, ours_with(problem, "fixed_slope", lower, upper))

    return at_once(lambda: build()[1], check)


# -- auto_LiRPA


def bounded_model(problem: Problem, iterations: int = 0) -> tuple[Any, Any]:
    """Its model, of a copy because it switches `requires_grad` on, and its ball or box."""
    package = load("auto_LiRPA")
    model = package.BoundedModule(
        copy.deepcopy(problem.model),
        problem.centre,
        bound_opts={"optimize_bound_args": {"iteration": iterations}},
        device=problem.centre.device,
    )
    region: dict[str, Any] = {"eps": problem.radius}
    if isinstance(problem.region, bounds.Box):
        region = {"x_L": problem.region.lower, "x_U": problem.region.upper}
    perturbation = package.PerturbationLpNorm(norm=float("inf"), **region)
    return model, package.BoundedTensor(problem.centre, perturbation)


def before_relus(model: Any) -> list[Any]:
    return [node.inputs[0] for node in model.nodes() if type(node).__name__ == "BoundRelu"]


def crown(problem: Problem) -> Work:
    (model, x), (C, d) = bounded_model(problem), rows(problem)

    @torch.no_grad()
    def call() -> Tensor:
        return d + model.compute_bounds(x=(x,), C=C, method="CROWN", bound_upper=False)[0]

    def check() -> float:
        value, nodes = call(), before_relus(model)
        lower, upper = [node.lower for node in nodes], [node.upper for node in nodes]
        return difference(value, ours_with(problem, "adaptive_slope", lower, upper))

    return at_once(call, check)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Optimising, auto_LiRPA puts numbers of the model's dtype into tensors of torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def alpha_crown(iterations: int, *, given: bool) -> Callable[[Problem], Work]:
    """given: with our l and u; otherwise its own, whose slopes are optimised too."""

    def prepare(problem: Problem) -> Work:
        (model, x), (C, d) = bounded_model(problem, iterations), rows(problem)
        options: dict[str, Any] = {}
        if given:
            # Told to keep them alone, it would find its own first.
            nodes, neurons = before_relus(model), problem.lps().relu_bounds
            model.set_bound_opts({"optimize_bound_args": {"fix_interm_bounds": True}})
            options["interm_bounds"] = {
                node.name: [k.lower.reshape(shape), k.upper.reshape(shape)]
                for node, k in zip(nodes, neurons, strict=True)
                for shape in [(len(C), *node.output_shape[1:])]
            }

        def call() -> Tensor:
            with default_dtype(C.dtype):
                return (
                    d
                    + model.compute_bounds(
                        x=(x,), C=C, method="CROWN-Optimized", bound_upper=False, **options
                    )[0]
                )

        return at_once(call)

    return prepare


# -- LP solvers


def direct(solver: str, *, condensing: bool = False) -> Callable[[Problem], Work]:
    """HiGHS or Gurobi without a modelling layer, on the CPU: the rows of an input are loaded, which
    is not timed, and then each LP is a call."""

    def load(relaxation: bounds.Relaxation, image: int) -> Highs | Gurobi:
        if not condensing:
            lp = lp_reference.assemble(relaxation, image)
            return DIRECT[solver](direct_solvers.uncondensed(lp))
        return DIRECT[solver](direct_solvers.condensed(condense(one_input(relaxation, image))))

    def minimise(loaded: Highs | Gurobi, row: int) -> np.ndarray:
        return np.array([loaded.minimise(row)])

    def prepare(problem: Problem) -> Work:
        relaxation = problem.lps()

        def run() -> Iterator[Call]:
            for image in range(len(relaxation.C)):
                loaded = load(relaxation, image)
                for row in range(relaxation.C.shape[1]):
                    yield partial(minimise, loaded, row)

        return Work(run=run)

    return prepare


def modelled(solver: str) -> Callable[[Problem], Work]:
    """The referee, cvxpy, modelling included, as its users pay for it: each input is a call."""

    def minimise(relaxation: bounds.Relaxation) -> np.ndarray:
        return lp_reference.solve(relaxation, solver=solver).value.ravel()

    def prepare(problem: Problem) -> Work:
        relaxation = problem.lps()
        x = cp.Variable()
        cp.Problem(cp.Minimize(x), [x >= 0]).solve(solver=solver)  # so that all is imported

        def run() -> Iterator[Call]:
            for image in range(len(relaxation.C)):
                yield partial(minimise, one_input(relaxation, image))

        return Work(run=run)

    return prepare


def one_input(relaxation: bounds.Relaxation, image: int) -> bounds.Relaxation:
    return relaxation.take(torch.tensor([image]), torch.arange(relaxation.C.shape[1]))
