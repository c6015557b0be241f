"""Operators that an ONNX graph may hold and that are refused, with what arrived and the remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from bounds import InvalidInputError, ModelFileError, UnsupportedLayerError
from bounds.read.onnx import file as onnx_file
from bounds.read.onnx import tensors as onnx_tensors
from tests.support.onnx_graphs import Graph, Normal, Step, Whole, graph_of, refused_onnx, step

Case = tuple[Graph, list[str]]


def image(*steps: Step, opset: int = 13) -> Graph:
    return graph_of(*steps, shape=(1, 2, 4), opset=opset)


# -- operators that are not modelled ---------------------------------------------------------------

CHANNEL = (Normal((2,)), Normal((2,)), Normal((2,)), Normal((2,), "positive"))
UNSUPPORTED: dict[str, Case] = {
    **{
        op: (
            graph_of(step(op, 0)),
            [f"the operator '{op}' is not modelled", "rewrite it"],
        )
        for op in ("Sigmoid", "Tanh", "Elu", "Gelu", "Celu", "ArgMax", "NonZero", "Round")
    },
    "QuantizeLinear": (graph_of(step("QuantizeLinear", 0, Normal(()))), ["'QuantizeLinear'"]),
    "product": (graph_of(step("Mul", 0, 0)), ["both its factors depend on the input"]),
    "quotient": (graph_of(step("Div", 0, 0)), ["its divisor depends on the input"]),
    "constant over input": (graph_of(step("Div", Normal((3,)), 0)), ["not affine in what depends"]),
    "reciprocal": (graph_of(step("Reciprocal", 0)), ["not affine in what depends"]),
    "matrix product": (graph_of(step("MatMul", 0, 0)), ["its second factor depends on the input"]),
    "Gemm": (
        graph_of(step("Gemm", 0, 0), shape=(1, 1)),
        ["its second factor depends on the input"],
    ),
    "stack of matrices": (
        graph_of(step("MatMul", 0, Normal((4, 3, 2)))),
        ["stack of matrices, of shape (4, 3, 2)", "one matrix a product"],
    ),
    "kernel": (image(step("Conv", 0, 0)), ["its weight depends on the input"]),
    "slope": (graph_of(step("PRelu", 0, 0)), ["its slope depends on the input"]),
    "clip": (
        graph_of(step("ReduceSum", 0, keepdims=0), step("Clip", 0, 1)),
        ["its min depends on the input"],
    ),
    "layer of constants": (
        graph_of(step("Conv", Normal((1, 2, 4)), Normal((1, 2, 1))), step("Add", 0, 1)),
        ["its input is a constant", "fold constants"],
    ),
    "indices": (image(step("MaxPool", 0, outputs=2, kernel_shape=[2])), ["output 't2'", "MaxPool"]),
    "mask": (graph_of(step("Dropout", 0, outputs=2)), ["output 't2' of the operator Dropout"]),
    "Dropout in training": (
        graph_of(step("Cast", Whole(1), to=9), step("Dropout", 0, None, 1)),
        ["Dropout in training mode is random", "eval mode"],
    ),
    "BatchNorm in training": (
        image(step("BatchNormalization", 0, *CHANNEL, training_mode=1), opset=15),
        ["BatchNorm normalises by the batch"],
    ),
    "BatchNorm's statistics": (
        image(step("BatchNormalization", 0, *CHANNEL, outputs=3)),
        ["statistics as outputs", "eval mode"],
    ),
    "spatial": (
        image(step("BatchNormalization", 0, *CHANNEL, spatial=0), opset=8),
        ["spatial=0 is not modelled", "opset 9"],
    ),
    "dilated average": (
        image(step("AveragePool", 0, kernel_shape=[2], dilations=[2]), opset=19),
        ["dilations=(2,) are not modelled"],
    ),
    "reflection": (
        image(step("Pad", 0, Whole((0, 0, 9, 0, 0, 0)), mode="reflect")),
        ["mode='reflect' of 9 and 0 entries", "use mode='constant', 'edge' or 'wrap'"],
    ),
    "cubic": (
        image(step("Resize", 0, None, None, Whole((1, 3, 2)), mode="cubic")),
        ["mode='cubic'"],
    ),
    "a jump": (graph_of(step("ThresholdedRelu", 0)), ["jumps from 0 to 1.0", "use Relu"]),
    "another jump": (graph_of(step("Shrink", 0)), ["jumps at 0.5", "use one number for both"]),
    "chosen by the input": (
        graph_of(step("Greater", 0, Normal((3,)))),
        ["not affine in what depends on the input"],
    ),
    **{
        op: (graph_of(step(op, *inputs, **attributes), step("Add", 0, 1)), [f"{op} draws random"])
        for op, inputs, attributes in (
            ("RandomNormal", (), {"shape": (3,)}),
            ("RandomUniformLike", (0,), {}),
            ("Bernoulli", (0,), {}),
            ("Multinomial", (0,), {}),
        )
    },
    "integers": (graph_of(step("Cast", 0, to=7)), ["casts what depends on the input to INT64"]),
    "half": (graph_of(step("Cast", 0, to=10)), ["to FLOAT16, which is not affine"]),
    "gathered by the input": (
        image(step("Gather", Normal((4,)), 0)),
        ["its indices depend on the input"],
    ),
    "kernel below stride": (
        image(step("Conv", 0, Normal((1, 2, 1)), strides=[2], auto_pad="SAME_UPPER")),
        ["auto_pad='SAME_UPPER'", "give the padding in numbers"],
    ),
    "larger output": (
        image(step("ConvTranspose", 0, Normal((2, 1, 1)), output_shape=[9])),
        ["to have the sizes [9]", "computes [4] alone"],
    ),
    "several images": (
        graph_of(step("Conv", 0, Normal((1, 2, 1))), shape=(3, 2, 4)),
        ["(3, 2, 4), where the first axis is no batch"],
    ),
    "three axes": (
        graph_of(step("Conv", 0, Normal((1, 1, 1, 1, 1))), shape=(1, 1, 2, 2, 2)),
        ["over 3 axes is not modelled"],
    ),
    "constant output": (graph_of(step("Neg", Normal((2,)))), ["does not depend on its input"]),
    "empty": (graph_of(step("Slice", 0, Whole((2,)), Whole((2,)))), ["size 0"]),
    "attribute": (
        graph_of(step("Constant", value_string="text"), step("Add", 0, 1)),
        ["the attribute value_string of the operator Constant is not modelled"],
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_operator(name: str, tmp_path: Path) -> None:
    case, fragments = UNSUPPORTED[name]
    refused_onnx(case.model(), tmp_path, UnsupportedLayerError, "layer 't", *fragments)


#: With a first axis that is open, so that nothing may work along it.
MIXING: dict[str, tuple[Step, ...]] = {
    "flattened": (step("Flatten", 0, axis=0),),
    "in one row": (step("Reshape", 0, Whole((1, -1))),),
    "in one axis": (step("Reshape", 0, Whole((-1,))),),
    "other rows": (step("Reshape", 0, Whole((-1, 3))),),
    "moved": (step("Transpose", 0, perm=[1, 0, 2]),),
    "averaged": (step("ReduceMean", 0, axes=[0]),),
    "averaged over all": (step("ReduceMean", 0),),
    "sliced": (step("Slice", 0, Whole((0,)), Whole((1,))),),
    "turned": (step("Slice", 0, Whole((-1,)), Whole((-9,)), Whole((0,)), Whole((-1,))),),
    "picked": (step("Gather", 0, Whole(0)),),
    "doubled": (step("Concat", 0, 0, axis=0),),
    "split": (step("Split", 0, Whole((1, 1)), outputs=2),),
    "padded": (step("Pad", 0, Whole((1, 0, 0, 0, 0, 0))),),
    "contracted": (step("Flatten", 0), step("MatMul", Normal((2, 2)), 1)),
    "an axis in front": (step("Unsqueeze", 0, Whole((0,))),),
    "against a batch": (step("Unsqueeze", 0, Whole((1,))), step("Add", 0, 1)),
    "against other axes": (step("Add", 0, Normal((2, 1, 2, 3))),),
    "scaled by the size": (step("Shape", 0), step("Cast", 1, to=1), step("Mul", 0, 2)),
    "counted": (step("Size", 0), step("Cast", 1, to=1), step("Div", 0, 2)),
    "size plus one": (step("Shape", 0), step("Add", 1, Whole(1)), step("Reshape", 0, 2)),
    "up to the size": (
        step("Shape", 0),
        step("Gather", 1, Whole((0,))),
        step("Slice", 0, Whole((0,)), 2, Whole((2,))),
    ),
    "a constant a sample": (
        step("Shape", 0),
        step("Expand", Normal((1, 2, 3)), 1),
        step("Add", 0, 2),
    ),
    "zeros a sample": (step("Shape", 0), step("ConstantOfShape", 1), step("Add", 0, 2)),
}


@pytest.mark.parametrize("name", MIXING)
def test_samples_of_an_open_batch_stay_apart(name: str, tmp_path: Path) -> None:
    model = graph_of(*MIXING[name], shape=("N", 2, 3)).model()
    refused_onnx(model, tmp_path, UnsupportedLayerError, "batch", "of the fixed size 1")


# -- graphs that are not valid, or would not fit into memory ---------------------------------------

INVALID: dict[str, Case] = {
    "no such axis": (graph_of(step("Concat", 0, 0, axis=5)), ["names axis 5 of 3"]),
    "axis twice": (graph_of(step("Unsqueeze", 0, Whole((0, 0)))), ["twice"]),
    "reshape": (graph_of(step("Reshape", 0, Whole((4, 2)))), ["shape (1, 2, 3) into (4, 2)"]),
    "two inferred sizes": (graph_of(step("Reshape", 0, Whole((-1, -1)))), ["into (-1, -1)"]),
    "copied size": (graph_of(step("Reshape", 0, Whole((6, 1, 1, 0)))), ["copies axes"]),
    "size 0": (
        graph_of(step("Reshape", 0, Whole((0, 2, 3)), allowzero=1), opset=14),
        ["(0, 2, 3)"],
    ),
    "quotient": (graph_of(step("Div", Whole(1), Whole(0)), step("Add", 0, 1)), ["integers by 0"]),
    "root": (graph_of(step("Sqrt", Whole(4)), step("Add", 0, 1)), ["takes int64"]),
    "squeeze": (graph_of(step("Squeeze", 0, Whole((1,)))), ["squeezes axes (1,)"]),
    "permutation": (
        graph_of(step("Transpose", 0, perm=[0, 0, 1])),
        ["3 axes by (0, 0, 1)"],
    ),
    "split": (graph_of(step("Split", 0, Whole((1, 4)), axis=1, outputs=2)), ["splits 2 entries"]),
    "unequal split": (graph_of(step("Split", 0, axis=2, outputs=2)), ["into 2 equal parts"]),
    "slice": (graph_of(step("Slice", 0, Whole((0, 0)), Whole((1,)))), ["slices from [0, 0]"]),
    "step 0": (
        graph_of(step("Slice", 0, Whole((0,)), Whole((1,)), Whole((1,)), Whole((0,)))),
        ["by [0]"],
    ),
    "gather": (
        graph_of(step("Gather", 0, Whole(7), axis=2)),
        ["axis 2 of shape (1, 2, 3)"],
    ),
    "broadcast": (graph_of(step("Add", 0, Normal((4,)))), ["(1, 2, 3) and (4)", "not broadcast"]),
    "parts": (graph_of(step("Flatten", 0), step("Concat", 0, 1, axis=1)), ["joins tensors"]),
    "pads": (graph_of(step("Pad", 0, Whole((1, 1)))), ["pads 3 axes by 2 numbers"]),
    "kernel": (image(step("MaxPool", 0, kernel_shape=[2, 2])), ["kernel (2, 2) for 1"]),
    "no spatial axes": (graph_of(step("GlobalMaxPool", 0), shape=(1, 2)), ["(1, 2), without"]),
    "kernel of 0": (image(step("MaxPool", 0, kernel_shape=[0])), ["has kernel (0,)"]),
    "auto_pad": (
        image(step("MaxPool", 0, kernel_shape=[2], auto_pad="BOTH")),
        ["auto_pad='BOTH'"],
    ),
    "declared kernel": (
        image(step("Conv", 0, Normal((1, 2, 1)), kernel_shape=[3])),
        ["a weight of shape (1, 2, 1)", "(3,)"],
    ),
    "bias": (image(step("Conv", 0, Normal((1, 2, 1)), Normal((5,)))), ["a bias of shape (5,)"]),
    "statistics": (
        image(step("BatchNormalization", 0, Normal((1,)), *CHANNEL[1:])),
        ["2 channels"],
    ),
    "slope": (graph_of(step("PRelu", 0, Normal((4, 1, 1)))), ["has a slope of shape (4, 1, 1)"]),
    "clip": (graph_of(step("Clip", 0, Normal((2,)))), ["has a min", "shape (2,)"]),
    "Gemm": (graph_of(step("Gemm", 0, Normal((3, 3)))), ["multiplies shapes (1, 2, 3) and (3, 3)"]),
    "Gemm's third": (
        graph_of(step("Gemm", 0, Normal((3, 3)), Normal((2, 3))), shape=(1, 3)),
        ["adds shape (2, 3) to a product of (1, 3)"],
    ),
    "number": (graph_of(step("MatMul", 0, Normal(()))), ["multiplies by a number"]),
    "types": (graph_of(step("Add", 0, Whole(1))), ["type int64 for a tensor of float32"]),
    "types of constants": (
        graph_of(step("Add", Whole(1), Normal((1,))), step("Add", 0, 1)),
        ["mixes float32 and int64"],
    ),
    "types of inputs": (graph_of(step("Cast", 0, to=11), step("Add", 0, 1)), ["mixes float"]),
    "shape of floats": (graph_of(step("Reshape", 0, Normal((2,)))), ["shape of type float32"]),
    "opset": (graph_of(step("Expand", 0, Whole((2, 3))), opset=7), ["SchemaError"]),
    "type of an attribute": (graph_of(step("LeakyRelu", 0, alpha=1)), ["the attribute 'alpha'"]),
    "another attribute": (graph_of(step("Relu", 0, alpha=0.5)), ["the attribute 'alpha'"]),
    "no attribute": (graph_of(step("Concat", 0, 0)), ["damaged", "axis"]),
    "inputs": (graph_of(step("Relu", 0, 0)), ["is Relu, and has 2 inputs"]),
    "empty input": (graph_of(step("Add", 0, None)), ["is Add", "an empty one"]),
    "not there yet": (graph_of(step("Relu", 2), step("Relu", 1)), ["reads 't2'"]),
    "itself": (graph_of(step("Add", 0, 1)), ["reads 't1'"]),
    "fill": (
        graph_of(step("Reshape", Normal((2, 2)), Whole((5,))), step("Add", 0, 1)),
        ["turns shape (2, 2) into (5)"],
    ),
    "zeros": (
        graph_of(step("ConstantOfShape", Whole((10**6, 10**6))), step("Add", 0, 1)),
        ["more than 268435456 numbers"],
    ),
    "repeats": (
        graph_of(step("Expand", Normal(()), Whole((10**12,))), step("Add", 0, 1)),
        ["more than 268435456 numbers"],
    ),
    "padding of a constant": (
        graph_of(step("Pad", Normal((2,)), Whole((10**12, 0))), step("Add", 0, 1)),
        ["more than 268435456 numbers"],
    ),
    "outer product": (
        graph_of(
            step("ConstantOfShape", Whole((10**5, 1))),
            step("ConstantOfShape", Whole((1, 10**5))),
            step("Add", 1, 2),
        ),
        ["more than 268435456 numbers"],
    ),
    "axes": (
        graph_of(*[step("Unsqueeze", i or Normal(()), Whole((0,))) for i in range(99)]),
        ["damaged or inconsistent (ValueError: "],
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_graph(name: str, tmp_path: Path) -> None:
    case, fragments = INVALID[name]
    refused_onnx(case.model(), tmp_path, ModelFileError, "model.onnx", *fragments)


TOO_LARGE: dict[str, Graph] = {
    "expanded": graph_of(step("Expand", 0, Whole((10**5, 10**5, 2, 3)))),
    "padded": graph_of(step("Pad", 0, Whole((0, 0, 0, 0, 0, 10**11)))),
    "axes": graph_of(*[step("Unsqueeze", i, Whole((0,))) for i in range(99)]),
    "convolution": image(step("Conv", 0, Normal((1, 2, 1)), pads=[10**12, 0])),
    "transposed convolution": image(step("ConvTranspose", 0, Normal((2, 1, 2)), strides=[10**12])),
    "maximum": image(step("MaxPool", 0, kernel_shape=[10**9], pads=[10**9, 0])),
    "average": image(step("AveragePool", 0, kernel_shape=[10**9], pads=[10**9, 0])),
    "products": graph_of(
        step("AveragePool", 0, kernel_shape=[2**11, 2**11], pads=[2**10] * 4),
        shape=(1, 1, 2**11, 2**11),
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large(name: str, tmp_path: Path) -> None:
    """Before it takes memory or time."""
    refused_onnx(TOO_LARGE[name].model(), tmp_path, UnsupportedLayerError, "layer 't")


def test_limits_hold_for_all_tensors_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "MAX_CONSTANTS", 10**4)
    monkeypatch.setattr(onnx_tensors, "MAX_NUMBERS", 10**4)
    many = range(40)
    constants = [step("Concat", i or Normal((2,)), i or Normal((2,)), axis=0) for i in many]
    refused_onnx(graph_of(*constants).model(), tmp_path, ModelFileError, "more than 10000 numbers")
    doubled = graph_of(*[step("Concat", i, i, axis=1) for i in many])
    refused_onnx(doubled.model(), tmp_path, UnsupportedLayerError, "more than 10000 numbers")
    sliced = [step("Slice", 0, Whole((0,)), Whole((1,)), Whole((1,))) for _ in many]
    sliced.append(step("Concat", *[i + 1 for i in many], axis=1))
    refused_onnx(
        graph_of(*sliced, shape=(1, 999)).model(), tmp_path, UnsupportedLayerError, "10000 numbers"
    )


@pytest.mark.parametrize(
    ("case", "fragments"),
    [
        (graph_of(step("MatMul", 0, Normal((4, 2)))), ["expects 4 features"]),
        (image(step("Conv", 0, Normal((1, 3, 1)))), ["expects (3 channels"]),
        (graph_of(step("Div", 0, Normal((3,)))), ["NaN or infinite"]),
    ],
)
def test_parameters_that_do_not_fit(case: Graph, fragments: list[str], tmp_path: Path) -> None:
    model = case.model()
    if model.graph.node[0].op_type == "Div":
        zeros = numpy_helper.from_array(np.zeros(3, np.float32), model.graph.initializer[0].name)
        model.graph.initializer[0].CopyFrom(zeros)
    refused_onnx(model, tmp_path, InvalidInputError, "layer 't1'", *fragments)
