"""ONNX operators that are written one by one: what is read is what ONNX Runtime computes."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bounds import UnsupportedLayerError, from_onnx
from tests.support.onnx_graphs import Graph, Normal, Whole, graph_of, step
from tests.support.refusals import refused

#: Operators of the models that are written below.
APART = {"DequantizeLinear", "LogSoftmax", "Softmax"}
IMAGE, SIGNAL = (1, 4, 3, 2), (1, 2, 5)
CONSTANT = {
    "Equal": step("Equal", Whole((1, -1, 2)), Whole((-1,))),
    "Greater": step("Greater", Normal((3,)), Normal(())),
    "Less": step("Less", Normal((3,)), Normal(())),
}

GRAPHS: dict[str, Graph] = {
    "Resize": graph_of(
        step(
            "Resize",
            0,
            None,
            None,
            Whole((1, 4, 7, 3)),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        step("Resize", 1, None, None, Whole((1, 4, 3, 5))),
        step(
            "Resize",
            2,
            None,
            None,
            Whole((1, 4, 8, 5)),
            nearest_mode="round_prefer_ceil",
            coordinate_transformation_mode="align_corners",
        ),
        step(
            "Resize",
            3,
            None,
            None,
            Whole((1, 4, 1, 9)),
            nearest_mode="ceil",
            coordinate_transformation_mode="pytorch_half_pixel",
        ),
        shape=IMAGE,
    ),
    "Pad": graph_of(
        step("Pad", 0, Whole((0, 0, 2, 1, 0, 0, 1, 0)), mode="reflect"),
        step("Pad", 1, Whole((0, 0, 0, 4, 0, 0, 7, 1)), mode="edge"),
        shape=IMAGE,
    ),
    "Pad around": graph_of(
        step("Pad", 0, Whole((0, 0, 6, 0, 0, 3)), mode="wrap"), shape=SIGNAL, opset=19
    ),
    "Tile": graph_of(step("Tile", 0, Whole((1, 2, 1, 3))), shape=IMAGE),
    "DepthToSpace": graph_of(
        step("DepthToSpace", 0, blocksize=2),
        step("SpaceToDepth", 1, blocksize=2),
        step("DepthToSpace", 2, blocksize=2, mode="CRD"),
        shape=IMAGE,
    ),
    "ReduceMax": graph_of(
        step("ReduceMax", 0, axes=(2,)), step("ReduceMin", 1, axes=(1, 3), keepdims=0), shape=IMAGE
    ),
    "HardSigmoid": graph_of(
        step("HardSigmoid", 0), step("HardSigmoid", 0, alpha=0.3, beta=-0.1), step("Mean", 0, 1, 2)
    ),
    "Shrink": graph_of(
        step("Shrink", 0, bias=0.25, lambd=0.25), step("ThresholdedRelu", 1, alpha=0.0)
    ),
    "Where": graph_of(
        CONSTANT["Greater"],
        step("Where", 1, 0, Normal((1, 2, 1))),
        step("Not", 1),
        step("Where", 3, 0, 2),
    ),
    "Less": graph_of(CONSTANT["Less"], step("Where", 1, Normal((3,)), 0)),
    "the shape that an expansion has": graph_of(
        CONSTANT["Equal"],
        step("Where", 1, Whole((1, 1, 1)), Whole((1, 4, 3))),
        step("Slice", 0, Whole((0,)), Whole((1,)), Whole((1,))),
        step("Expand", 3, 2),
    ),
    "GatherND": graph_of(step("GatherND", 0, Whole((0, 1))), step("Unsqueeze", 1, Whole((0,)))),
    "constants": graph_of(
        step("Pow", Normal((3,), "positive"), Normal((3,))),
        step("Floor", 1),
        step("Range", Whole(1), Whole(10), Whole(3)),
        step("Cast", 3, to=TensorProto.FLOAT),
        step("Mul", 2, 4),
        step("Add", 0, 5),
    ),
    "Upsample": graph_of(
        step("Upsample", 0, mode="nearest", scales=(1.0, 1.0, 2.0, 1.6)), shape=IMAGE, opset=8
    ),
    "Gemm of multiples": graph_of(
        step("Gemm", 0, Normal((3, 2)), Normal((2,)), alpha=0.3, beta=0.7), shape=(1, 3)
    ),
}


def packed() -> ModelProto:
    """Weights in eight bits and in half precision, a dead softmax, an input that nothing reads."""
    dice = np.random.default_rng(0)
    arrays = {
        "q": dice.integers(-9, 9, (6, 2)).astype(np.int8),
        "s": np.array([0.1, 0.3], np.float32),
        "z": np.array([1, -2], np.int8),
        "h": dice.standard_normal((2, 4)).astype(np.float16),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
        helper.make_node("Cast", ["h"], ["v"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["X", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"]),
        helper.make_node("MatMul", ["y", "v"], ["Y"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 6]) for n in ("X", "Z")]
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", values, [output], initializers)
    twice = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 17)]
    return helper.make_model(graph, opset_imports=twice, ir_version=8)


def agrees(model: ModelProto, path: Path, shape: tuple[int, ...]) -> None:
    path.write_bytes(model.SerializeToString())
    network = from_onnx(path)
    for x in np.random.default_rng(1).standard_normal((20, *shape)).astype(np.float32):
        feeds = {value.name: np.zeros(shape, np.float32) for value in model.graph.input}
        feeds[model.graph.input[0].name] = x
        [expected] = session(model, feeds)
        sample = torch.from_numpy(x).reshape(1, *network.input_shape)
        actual = network(sample).reshape(expected.shape)
        # Some units of rounding of the magnitudes that an output is a sum of.
        magnitude = float(network.convert(torch.abs)(sample.abs()).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=16 * 2.0**-24 * magnitude)


def session(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Its optimisations round the input of packed weights to eight bits.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[np.ndarray] = runtime.run(None, feeds)
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_operator(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]
    shape = tuple(int(size) for size in graph.input_shape)
    agrees(graph.model(), tmp_path / "model.onnx", shape)


def test_what_the_output_does_not_need_is_not_read(tmp_path: Path) -> None:
    agrees(packed(), tmp_path / "model.onnx", (1, 6))


def test_a_shape_for_one_sample_of_an_open_batch(tmp_path: Path) -> None:
    graph = graph_of(
        step("Reshape", 0, Whole((1, 6))), step("MatMul", 1, Normal((6, 2))), shape=("batch", 2, 3)
    )
    agrees(graph.model(), tmp_path / "model.onnx", (1, 2, 3))


def test_ends_of_clip_in_float64(tmp_path: Path) -> None:
    """Beyond the largest float32 there are more of them."""
    low = numpy_helper.from_array(np.array(-1e39), "low")
    value = helper.make_tensor_value_info("X", TensorProto.DOUBLE, [1, 1])
    output = helper.make_tensor_value_info("Y", TensorProto.DOUBLE, [1, 1])
    graph = helper.make_graph(
        [helper.make_node("Clip", ["X", "low"], ["Y"])], "g", [value], [output], [low]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    x = np.array([[-3e39]])
    [expected] = session(model, {"X": x})
    np.testing.assert_allclose(from_onnx(path)(torch.from_numpy(x)), expected, rtol=1e-12)


def test_gzipped(tmp_path: Path) -> None:
    model = GRAPHS["HardSigmoid"].model()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(model.SerializeToString()))
    x = torch.rand(3, *from_onnx(path).input_shape)
    assert torch.equal(from_onnx(path)(x), from_onnx(tmp_path / "model.onnx")(x))
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as stream:
        stream.write(bytes(10**7))
    for data in (buffer.getvalue(), path.read_bytes()[:50]):
        path.write_bytes(data)
        with pytest.raises(Exception, match=r"64 times its size, or is damaged; unpack it"):
            from_onnx(path)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_at_the_end(op: str, opset: int, tmp_path: Path) -> None:
    steps = step("MatMul", 0, Normal((3, 4))), step(op, 1, axis=1)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_of(*steps, shape=(1, 3), opset=opset).model().SerializeToString())
    refused(lambda: from_onnx(path), UnsupportedLayerError, "not piecewise linear", "drop_softmax")
    logits = path.with_name("logits.onnx")
    logits.write_bytes(graph_of(*steps[:1], shape=(1, 3)).model().SerializeToString())
    x = torch.randn(5, 3)
    assert torch.equal(from_onnx(path, drop_softmax=True)(x), from_onnx(logits)(x))
    after = graph_of(*steps, step("Relu", 2), shape=(1, 3), opset=opset)
    path.write_bytes(after.model().SerializeToString())
    refused(
        lambda: from_onnx(path, drop_softmax=True),
        UnsupportedLayerError,
        "followed by other layers",
    )


def test_a_file_that_asks_for_more_than_it_has(tmp_path: Path) -> None:
    """218 bytes, whose convolution would lay out 144 GB."""
    dims = numpy_helper.from_array(np.array([1, 1, 2000, 2000]), "s")
    kernel = numpy_helper.from_array(np.array([1, 1, 100, 100]), "k")
    nodes = [
        helper.make_node("Expand", ["X", "s"], ["x"]),
        helper.make_node("ConstantOfShape", ["k"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["Y"]),
    ]
    value = helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 1, 1, 1])
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [value], [output], [dims, kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refused(lambda: from_onnx(path), UnsupportedLayerError, "windows have 36138010000 numbers")
