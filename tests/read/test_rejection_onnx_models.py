"""ONNX models that are refused for what stands around their operators."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from bounds import InvalidInputError, ModelFileError, UnsupportedLayerError, from_onnx
from tests.support.onnx_graphs import Normal, graph_of, refused_onnx, step
from tests.support.refusals import refused

Change = Callable[[ModelProto], object]


def relabel(model: ModelProto, element: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = element


def shaped(*sizes: int | str | None) -> Change:
    def change(model: ModelProto) -> None:
        value = helper.make_tensor_value_info("t0", TensorProto.FLOAT, sizes)
        model.graph.input[0].CopyFrom(value)

    return change


def weight(**fields: Any) -> Change:
    """The change of the weight's tensor, as protobuf's own constructor takes the fields."""

    def change(model: ModelProto) -> None:
        name = model.graph.initializer[0].name
        model.graph.initializer[0].CopyFrom(TensorProto(name=name, **fields))

    return change


def declared(*sizes: int) -> Change:
    value = helper.make_tensor_value_info("t1", TensorProto.FLOAT, sizes)
    return lambda model: model.graph.output[0].CopyFrom(value)


def opset(version: int, domain: str = "") -> Change:
    return lambda model: model.opset_import.append(helper.make_opsetid(domain, version))


def again(field: str) -> Change:
    return lambda model: getattr(model.graph, field).append(getattr(model.graph, field)[0])


FLOAT, ROW = TensorProto.FLOAT, np.zeros(6, np.float32).tobytes()
MODELS: dict[str, tuple[Change, list[str]]] = {
    "no graph": (lambda m: m.ClearField("graph"), ["it has no graph"]),
    "no opset": (
        lambda m: m.ClearField("opset_import"),
        ["not one version of the ONNX"],
    ),
    "two opsets": (opset(7, "ai.onnx"), ["not one version of the ONNX operators but [7, 13]"]),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 6), ["opset is 6, expected 7"]),
    "new opset": (lambda m: setattr(m.opset_import[0], "version", 99), ["opset is 99"]),
    "functions": (lambda m: m.functions.add(), ["functions of its own"]),
    "training": (lambda m: m.training_info.add(), ["training information"]),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), ["sparse initializers"]),
    "no input": (lambda m: m.graph.ClearField("input"), ["has 0 inputs"]),
    "two inputs": (again("input"), ["two inputs of one name"]),
    "two outputs": (again("output"), ["has 2 outputs"]),
    "two weights": (again("initializer"), ["two initializers of one name"]),
    "two tensors": (again("node"), ["computes 't1', which is there already"]),
    "no shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        ["declared without a shape"],
    ),
    "open axis": (shaped("N", "M"), ["axis 1 of its input 't0' has no fixed size"]),
    "batch alone": (shaped("N"), ["no axis but the batch"]),
    "no axes": (shaped(), ["no axis but the batch"]),
    "size 0": (shaped(1, 0), ["declared with shape [1, 0]"]),
    "negative size": (shaped(-1, 3), ["declared with shape [-1, 3]"]),
    "huge": (shaped(1, 2**40), ["[1, 1099511627776]", "at most 268435456"]),
    "half": (lambda m: relabel(m, TensorProto.FLOAT16), ["type FLOAT16, expected FLOAT or"]),
    "integers": (lambda m: relabel(m, TensorProto.INT64), ["type INT64, expected FLOAT or"]),
    "unknown type": (lambda m: relabel(m, 99), ["type number 99"]),
    "output shape": (declared(1, 5), ["shape [1, 5], but its graph computes (1, 2)"]),
    "output rank": (declared(2), ["shape [2], but its graph computes (1, 2)"]),
    "custom domain": (
        lambda m: setattr(m.graph.node[0], "domain", "com.x"),
        ["'com.x.MatMul' is not modelled"],
    ),
    "nameless": (lambda m: setattr(m.graph.node[0], "op_type", ""), ["operator '' is not"]),
    "half weight": (weight(data_type=TensorProto.FLOAT16, dims=[3, 2]), ["FLOAT16, but 0 bytes"]),
    "bfloat16": (
        weight(data_type=TensorProto.BFLOAT16, dims=[3, 2]),
        ["BFLOAT16, expected"],
    ),
    "complex": (weight(data_type=TensorProto.COMPLEX64, dims=[3, 2]), ["type COMPLEX64"]),
    "text": (weight(data_type=TensorProto.STRING, dims=[1]), ["type STRING"]),
    "negative": (weight(data_type=FLOAT, dims=[-3, -2], raw_data=ROW), ["shape (-3, -2)"]),
    "short": (weight(data_type=FLOAT, dims=[3, 2], raw_data=ROW[1:]), ["(3, 2)", "23 bytes"]),
    "few": (weight(data_type=FLOAT, dims=[3, 2], float_data=[1.0]), ["4 bytes of numbers"]),
    "other field": (weight(data_type=FLOAT, dims=[1], int64_data=[1]), ["0 bytes of numbers"]),
    "two fields": (
        weight(data_type=FLOAT, dims=[3, 2], raw_data=ROW, float_data=[0.0] * 6),
        ["in several places"],
    ),
    "segment": (
        weight(data_type=FLOAT, dims=[3, 2], raw_data=ROW, segment=TensorProto.Segment(begin=0)),
        ["in several places"],
    ),
    "many": (weight(data_type=FLOAT, dims=[2**40, 2]), ["more than 268435456 numbers"]),
    "axes": (weight(data_type=FLOAT, dims=[1] * 99, raw_data=ROW[:4]), ["has shape (1, 1,"]),
    "not a number": (
        weight(data_type=FLOAT, dims=[3, 2], float_data=[math.nan] * 6),
        ["NaN or infinite"],
    ),
}


OTHERS = {
    "custom domain": UnsupportedLayerError,
    "nameless": UnsupportedLayerError,
    "not a number": InvalidInputError,
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, tmp_path: Path) -> None:
    change, fragments = MODELS[name]
    model = graph_of(step("MatMul", 0, Normal((3, 2))), shape=(1, 3)).model()
    change(model)
    error = OTHERS.get(name, ModelFileError)
    refused_onnx(model, tmp_path, error, *fragments)


def test_dtype(tmp_path: Path) -> None:
    model = graph_of(step("Relu", 0)).model()
    fragments = "torch.float16", "torch.float32 or torch.float64"
    refused_onnx(model, tmp_path, InvalidInputError, *fragments, dtype=torch.float16)


def test_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "bounds.read.onnx.file", raising=False)
    monkeypatch.delattr("bounds.read.onnx.file", raising=False)
    refused(
        lambda: from_onnx("model.onnx"),
        ModelFileError,
        "the package onnx",
        "pip install relu-bounds[onnx]",
    )
