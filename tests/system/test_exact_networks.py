"""Bounds of small networks against the networks over the rationals, whatever they are read from."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
from bounds import Ball, Relaxation
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.solvers.solve import Method
from lp_reference.matrices import affine_matrix
from tests.support.exact_layers import Divide, exact, values
from tests.support.layers import (
    BatchNorm,
    Clip,
    Dense,
    Dice,
    Flatten,
    Layer,
    Leaky,
    Relu,
    ScaleShift,
    output_shape,
    stack,
)
from tests.support.networks import Architecture, convolutions, max_pools, pools, seeds
from tests.support.onnx_graphs import run
from tests.support.onnx_writer import write_chain
from tests.support.problems import NORMS, points

Reader = Literal["torch", "onnx"]
#: With a limit on iterations: bounds hold wherever a method stops.
METHODS: dict[Method, int | None] = {
    "fixed_slope": None,
    "adaptive_slope": None,
    "optimised_slope": 5,
    "interior_point": 50,
    "pdhg": 100,
    "exact": 100,
}
INTERMEDIATE = ("interval", "backward", "optimised", "lp")
#: A slope and an end of a clip that are no floats of few digits, as torch has them in float32.
ODD = torch.tensor(0.1).item()


@st.composite
def chains(draw: st.DrawFn) -> Architecture:
    """One to three affine layers with layers between them whose numbers are computed in reading."""
    input_shape = shape = draw(st.sampled_from([(2,), (3,), (1, 4), (1, 2, 3)]))
    found: tuple[Layer | Divide, ...] = ()

    def add(strategy: st.SearchStrategy[object]) -> None:
        nonlocal found, shape
        layer = draw(strategy)
        if layer is not None:
            found = (*found, layer)  # type: ignore[assignment]
            shape = output_shape(stack((layer,), shape, Dice(0)), shape)  # type: ignore[arg-type]

    for _ in range(draw(st.integers(1, 2))):
        add(st.integers(1, 4).map(Dense) if len(shape) == 1 else convolutions(shape))
        add(st.sampled_from([None, Divide(), BatchNorm(), ScaleShift(True), ScaleShift(False)]))
        kinds = [st.sampled_from([Relu(), Leaky(ODD), Leaky(-0.5), Clip(-0.25, ODD)])]
        if len(shape) > 1:
            # ONNX Runtime counts windows otherwise than torch where the last begins outside.
            kinds.append(max_pools(shape).map(lambda pool: replace(pool, ceil_mode=False)))
        if len(shape) == 3:
            kinds.append(pools(shape))
        add(st.one_of(kinds))
    if len(shape) > 1:
        add(st.just(Flatten()))
    add(st.just(Dense(2)))
    return Architecture(input_shape, found, draw(seeds))  # type: ignore[arg-type]


def read(model: nn.Sequential, shape: tuple[int, ...], reader: Reader, folder: Path) -> Network:
    if reader == "torch":
        dtype = next(model.parameters()).dtype
        return bounds.from_torch(model, shape, dtype=dtype).detach()
    return bounds.from_onnx(write_chain(model, shape, folder / "chain.onnx")).detach()


def relu_inputs(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """The pre-activations of every ReLU of the network as it was read."""
    found: list[np.ndarray] = []
    nodes: list[np.ndarray] = []
    for node in network.nodes:
        match node:
            case InputNode():
                nodes.append(x.reshape(len(x), -1))
            case AffineNode(parents=(parent,), operation=operation):
                matrix, bias = affine_matrix(operation)
                product = nodes[parent] @ exact(torch.from_numpy(matrix.toarray())).T
                nodes.append(product + exact(torch.from_numpy(bias)))
            case SumNode(parents=parents):
                nodes.append(sum(nodes[parent] for parent in parents))  # type: ignore[arg-type]
            case ReluNode(parents=(parent,)):
                found.append(nodes[parent])
                nodes.append(np.maximum(nodes[parent], Fraction(0)))
    return found


def inside(relaxation: Relaxation, count: int) -> Tensor:
    """Points of the only set, corners among them."""
    drawn, within = relaxation.input_set.inside(points(relaxation.input_set, count))
    return drawn[0][within[0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chains")


@settings(max_examples=settings().max_examples // 2)
@given(
    architecture=chains(),
    single=st.booleans(),
    reader=st.sampled_from(["torch", "onnx"]),
    radius=st.sampled_from([0.0, 1e-6, 0.1, 1.0]),
    norm=st.sampled_from(NORMS),
    seed=seeds,
)
def test_bounds_hold_over_the_rationals(
    architecture: Architecture,
    single: bool,
    reader: Reader,
    radius: float,
    norm: float,
    seed: int,
    folder: Path,
) -> None:
    dtype = torch.float32 if single else torch.float64
    model, dice = architecture.build().to(dtype), Dice(seed)
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.eps = torch.tensor(layer.eps).item()  # as ONNX has it, whatever the dtype
    network = read(model, architecture.input_shape, reader, folder)
    ball = Ball(dice.normal(1, *architecture.input_shape).to(dtype), radius=radius, norm=norm)
    # Rows that cancel what both outputs have in common, and their sum.
    rows = bounds.Specification(torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], dtype=dtype))
    # Over ℓ2 balls the LPs are cone programs, which take pdhg long.
    for intermediate in INTERMEDIATE[: 3 if norm == 2 else 4]:
        relaxation = bounds.relax(network, ball, rows, intermediate=intermediate)  # type: ignore[arg-type]
        x = exact(inside(relaxation, 6))
        for claimed, truth in zip(relaxation.relu_bounds, relu_inputs(network, x), strict=True):
            assert (exact(claimed.lower.flatten()) <= truth).all(), intermediate
            assert (truth <= exact(claimed.upper.flatten())).all(), intermediate
    outputs = values(model, x, dtype) @ exact(rows.C).T
    for method, limit in METHODS.items():
        if norm == 2 and method == "interior_point":
            continue
        found = bounds.solve(relaxation, method=method, iteration_limit=limit)
        excess = float((exact(found.lower[0]) - outputs).max())
        assert excess <= 0, (method, excess)


def test_the_exact_layers_are_those_of_torch_and_of_onnx_runtime(folder: Path) -> None:
    """To rounding, so that what is compared with is the model, and what is read is it too."""

    @settings(settings.get_profile("default"), max_examples=60)
    @given(chains(), seeds)
    def compare(architecture: Architecture, seed: int) -> None:
        model = architecture.build()
        x = Dice(seed).normal(2, *architecture.input_shape)
        found = values(model, exact(x), torch.float64).astype(float)
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-9, atol=1e-9)
        written = onnx.load(write_chain(model.float(), x.shape[1:], folder / "x.onnx"))
        [again] = run(written, x[:1].float().numpy())
        np.testing.assert_allclose(again, found[:1], rtol=1e-4, atol=1e-4)

    compare()
