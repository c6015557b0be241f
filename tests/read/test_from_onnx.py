"""ONNX files: what is read is what ONNX Runtime computes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

import bounds
from bounds import Ball, Network, Specification
from bounds.network.affine import Shape
from bounds.network.graph import AffineNode
from bounds.read.onnx.operators import HANDLERS
from tests.read.test_onnx_operators import APART, GRAPHS
from tests.support.exported import MODELS
from tests.support.onnx_graphs import SAMPLES, Graph, Normal, Whole, graph_of, run, step
from tests.support.onnx_steps import EVERY, FOLDED, graphs


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


def read(model: ModelProto, file: Path, dtype: torch.dtype | None = None) -> Network:
    file.write_bytes(model.SerializeToString())
    return bounds.from_onnx(file, dtype=dtype)


# -- drawn graphs ----------------------------------------------------------------------------------


def sample_shape(graph: Graph) -> Shape:
    """What an input has without the batch."""
    lead = graph.input_shape[0] in (1, "batch") and len(graph.input_shape) > 1
    return tuple(int(size) for size in graph.input_shape[lead:])


def inputs(graph: Graph, dtype: type[np.floating[Any]]) -> np.ndarray:
    dice = np.random.default_rng(graph.seed + 1)
    return dice.standard_normal((SAMPLES, *sample_shape(graph))).astype(dtype)


def runtime(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The outputs of ONNX Runtime, flattened: all at once where the batch is open."""
    model = graph.model(x.dtype.type)
    if graph.input_shape[0] == "batch":
        return run(model, x)[0].reshape(len(x), -1)
    return np.stack([run(model, row.reshape(graph.input_shape))[0].reshape(-1) for row in x])


@pytest.mark.parametrize("op", [*EVERY, *FOLDED])
@settings(max_examples=settings.default.max_examples // 4)
@given(data=st.data())
def test_network_computes_what_the_runtime_does(op: str, data: st.DataObject, file: Path) -> None:
    graph = data.draw(graphs(must=op))
    x = inputs(graph, np.float32)
    expected = runtime(graph, x)
    scale = max(1.0, float(np.abs(expected).max()))
    single = read(graph.model(), file)
    double = bounds.from_onnx(file, dtype=torch.float64)
    assert single.input_shape == sample_shape(graph)
    for y in (single(torch.from_numpy(x)), double(torch.from_numpy(x).double())):
        np.testing.assert_allclose(y.flatten(1).numpy(), expected, rtol=0, atol=1e-5 * scale)
    try:
        expected = runtime(graph, x.astype(np.float64))
    except NoKernel:  # ONNX Runtime has not every operator in float64
        return
    y = read(graph.model(np.float64), file)(torch.from_numpy(x).double())
    assert y.dtype == torch.float64
    np.testing.assert_allclose(y.flatten(1).numpy(), expected, rtol=0, atol=1e-12 * scale)


def test_every_operator_is_drawn() -> None:
    """Or among the models of `tests/read/test_onnx_operators.py`."""
    written = {node.op for graph in GRAPHS.values() for node in graph.steps}
    assert {*EVERY, *written} | APART == {*HANDLERS}


@given(graph=graphs(affine=True))
def test_transpose(graph: Graph, file: Path) -> None:
    """⟨net(x) − net(0), y⟩ = ⟨x, Wᵀy⟩ and ⟨net(0), y⟩ is the constant."""
    network = read(graph.model(), file, torch.float64)
    x = torch.from_numpy(inputs(graph, np.float64))
    y = torch.randn(SAMPLES, 3, *network.output_shape, dtype=torch.float64)
    assert not network.relus
    constant, c = network.backward(len(network.nodes) - 1, y, lambda _, coefficients: coefficients)
    at_zero = (y * network(torch.zeros_like(x)).unsqueeze(1)).flatten(2).sum(2)
    slope = (y * network(x).unsqueeze(1)).flatten(2).sum(2) - at_zero
    torch.testing.assert_close(constant, at_zero, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close((c * x.unsqueeze(1)).flatten(2).sum(2), slope, rtol=1e-9, atol=1e-9)


@given(graph=graphs(must="Relu"))
def test_bounds_are_below_what_the_runtime_computes(graph: Graph, file: Path) -> None:
    network = read(graph.model(), file, torch.float64)
    x = torch.from_numpy(inputs(graph, np.float64))
    outputs = torch.Size(network.output_shape).numel()
    C = torch.randn(4, outputs, dtype=torch.float64)
    relaxation = bounds.relax(network, Ball(x, radius=0.5), Specification(C))
    lower = bounds.solve(relaxation, method="fixed_slope").lower
    for share in (-1.0, 0.0, 1.0, "corner", "inside"):
        step = torch.rand_like(x) * 2 - 1 if isinstance(share, str) else torch.full_like(x, share)
        point = x + 0.5 * (step.sign() if share == "corner" else step)
        y = torch.from_numpy(runtime(graph, point.numpy().astype(np.float32))).double()
        slack = 1e-5 * max(1.0, float(y.abs().max())) * C.abs().sum(1)
        assert (lower <= y @ C.T + slack).all()


# -- shapes and names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "sample"),
    [
        ((1, 1, 28, 28), (1, 28, 28)),
        (("N", 3, 4), (3, 4)),
        ((1, 5), (5,)),
        (("N", 5), (5,)),
        ((1, 1), (1,)),
        ((5,), (5,)),
        ((1,), (1,)),
        ((784, 1), (784, 1)),
        ((2, 3), (2, 3)),
    ],
)
def test_shapes_are_those_of_one_sample(
    declared: tuple[int | str, ...], sample: Shape, file: Path
) -> None:
    network = read(graph_of(step("Relu", 0), shape=declared).model(), file)
    assert network.input_shape == network.output_shape == sample
    x = torch.randn(4, *sample)
    assert torch.equal(network(x), x.clamp(min=0))


def test_output_that_is_one_number(file: Path) -> None:
    total = step("ReduceSum", 0, keepdims=0)
    network = read(graph_of(total, shape=(2, 3)).model(), file)
    assert network.output_shape == (1,)
    row = step("ReduceSum", 0, Whole((1,)), keepdims=0)
    assert read(graph_of(row, shape=("N", 3)).model(), file).output_shape == (1,)


def test_nodes_carry_the_names_of_the_operators(file: Path) -> None:
    weight = Normal((3, 2))
    model = graph_of(step("MatMul", 0, weight), step("Relu", 1), step("Neg", 2)).model()
    model.graph.node[0].name = "dense"
    names = [node.name for node in read(model, file).nodes]
    assert names == ["input", "dense", "t2", "t3"]


def test_weights_are_read_exactly(file: Path) -> None:
    gemm = step("Gemm", 0, Normal((4, 3)), Normal((4,)), transB=1)
    model = graph_of(gemm, shape=(1, 3)).model()
    for dtype in (torch.float32, torch.float64):
        network = read(model, file, dtype)
        operation = network.nodes[1]
        assert isinstance(operation, AffineNode)
        stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        for array, parameter in zip(stored, network.parameters, strict=True):
            assert parameter.dtype == dtype
            assert np.array_equal(parameter.numpy(), array)


def test_outputs_that_nothing_reads(file: Path) -> None:
    dropout = step("Dropout", 0, outputs=2)  # the second is the mask
    pool = step("MaxPool", 1, outputs=2, kernel_shape=[1])  # the second, the indices
    network = read(graph_of(dropout, pool, step("Neg", 3)).model(), file)
    x = torch.randn(2, 2, 3)
    assert torch.equal(network(x), -x)


def test_padding_that_takes_entries_off_a_constant(file: Path) -> None:
    padded = step("Pad", Normal((1, 2, 4)), Whole((0, 0, 1, 0, 0, -2)))
    graph = graph_of(padded, step("Add", 0, 1))
    x = inputs(graph, np.float32)
    y = read(graph.model(), file)(torch.from_numpy(x))
    np.testing.assert_allclose(y.flatten(1).numpy(), runtime(graph, x), rtol=0, atol=1e-6)


def test_reshapes_cost_no_nodes(file: Path) -> None:
    shapes = [step("Reshape", i, Whole(s)) for i, s in enumerate([(3, 1), (1, 3, 1), (1, 3)])]
    relu = step("Relu", 3)
    assert len(read(graph_of(*shapes, relu, shape=(1, 3)).model(), file).nodes) == 2


# -- files of others -------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", ["residual", "strided", "mlp"])
def test_what_torch_exports(name: str, dynamic: bool, file: Path) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, axes = make().eval(), {"x": {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.randn(1, *shape),),
            str(file),
            input_names=["x"],
            dynamic_axes=axes,
            dynamo=False,
            do_constant_folding=False,
        )
    network = bounds.from_onnx(str(file))
    x = torch.randn(7, *shape)
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)


def test_every_published_network_computes_what_the_runtime_does(shared_data: Path) -> None:
    """Within 5e-5 of the largest output: both compute in float32, in another order."""
    files = sorted((shared_data / "vnncomp").rglob("*.onnx"))
    assert len(files) >= 61
    dice = np.random.default_rng(0)
    for path in files:
        model = onnx.load(path)
        initializers = {tensor.name for tensor in model.graph.initializer}
        (declared,) = (value for value in model.graph.input if value.name not in initializers)
        shape = [dim.dim_value or 1 for dim in declared.type.tensor_type.shape.dim]
        x = np.stack([dice.standard_normal(shape), dice.uniform(0, 1, shape)] * 50)
        x = x.astype(np.float32)
        session = onnxruntime.InferenceSession(str(path))
        expected = np.stack([session.run(None, {declared.name: row})[0].reshape(-1) for row in x])
        scale = max(1.0, float(np.abs(expected).max()))
        for dtype in (torch.float32, torch.float64):
            network = bounds.from_onnx(path, dtype=dtype)
            y = network(torch.from_numpy(x).to(dtype).reshape(100, *network.input_shape))
            np.testing.assert_allclose(y.flatten(1), expected, rtol=0, atol=5e-5 * scale)
