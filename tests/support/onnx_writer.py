"""An ONNX model of a chain of torch layers, number by number: nothing is folded or rounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from tests.support import exact_layers, layers


def write_chain(model: nn.Sequential, shape: tuple[int, ...], path: Path) -> Path:
    """Of the layers that `exact_layers` draws."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(op: str, *operands: Tensor, **attributes: Any) -> None:
        names = [f"t{len(nodes)}"]
        for operand in operands:
            names.append(f"c{len(constants)}")
            constants.append(numpy_helper.from_array(operand.detach().numpy(), names[-1]))
        nodes.append(helper.make_node(op, names, [f"t{len(nodes) + 1}"], **attributes))

    dtype = next(model.parameters()).dtype
    for layer in model:
        match layer:
            case nn.Linear():
                add("MatMul", layer.weight.mT)
                add("Add", layer.bias)
            case nn.Conv1d() | nn.Conv2d():
                rest = {"dilations": layer.dilation, "group": layer.groups}
                add("Conv", layer.weight, layer.bias, **rest, **window(layer))
            case nn.AvgPool2d():
                add("AveragePool", count_include_pad=1, **window(layer))
            case nn.MaxPool1d() | nn.MaxPool2d():
                rest = {"dilations": layer.dilation, "ceil_mode": int(layer.ceil_mode)}
                add("MaxPool", **rest, **window(layer))
            case nn.ReLU():
                add("Relu")
            case nn.LeakyReLU():
                add("LeakyRelu", alpha=layer.negative_slope)
            case nn.Hardtanh():
                add("Clip", *(torch.tensor(n, dtype=dtype) for n in (layer.min_val, layer.max_val)))
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                statistics = (layer.running_mean, layer.running_var)
                operands = (layer.weight, layer.bias, *statistics)
                add("BatchNormalization", *operands, epsilon=layer.eps)  # type: ignore[arg-type]
            case nn.Flatten():
                add("Flatten")
            case layers._ScaleShift():
                add("Mul", layer.scale)
                add("Add", layer.shift)
            case exact_layers._Divide():
                add("Div", layer.divisor)
            case _:
                raise TypeError(f"nothing is known of {type(layer).__name__}")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype).removeprefix("torch.")))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("t0", kind, (1, *shape))],
        [onnx.ValueInfoProto(name=f"t{len(nodes)}")],
        constants,
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def window(layer: Any) -> dict[str, Sequence[int]]:
    return {
        "kernel_shape": layer.kernel_size,
        "strides": layer.stride,
        "pads": [*layer.padding, *layer.padding],
    }
