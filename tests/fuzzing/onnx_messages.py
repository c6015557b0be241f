"""A small ONNX graph, and changes to its message as a hostile writer would make them."""

from __future__ import annotations

import random

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from bounds.read.onnx.operators import HANDLERS
from tests.support.onnx_graphs import Normal, Whole, graph_of, step

#: A graph that has layers, shapes, a constant that is folded, and a residual connection.
GRAPH = graph_of(
    step("Conv", 0, Normal((4, 2, 3)), Normal((4,)), pads=[1, 1], strides=[1]),
    step("Relu", 1),
    step("Conv", 2, Normal((4, 2, 3)), pads=[1, 1], group=2),
    step("Add", 2, 3),
    step("MaxPool", 4, kernel_shape=[2], strides=[2]),
    step("Shape", 5),
    step("Gather", 6, Whole((0,))),
    step("Concat", 7, Whole((-1,)), axis=0),
    step("Reshape", 5, 8),
    step("Transpose", Normal((3, 8)), perm=[1, 0]),
    step("Mul", 10, Normal(())),
    step("MatMul", 9, 11),
    step("Gemm", 12, Normal((3, 5)), Normal((5,)), alpha=0.5),
    step("Slice", 13, Whole((0,)), Whole((4,)), Whole((1,))),
    shape=("N", 2, 4),
)
#: A fixed batch, and operators that make constants or pad and tile.
SMALL = graph_of(
    step("Pad", 0, Whole((0, 1, 0, 1))),
    step("Unsqueeze", 1, Whole((0,))),
    step("AveragePool", 2, kernel_shape=[2]),
    step("Clip", 3, Normal(()), Normal(())),
    step("Flatten", 4),
    step("ConstantOfShape", Whole((5,))),
    step("Sub", 5, 6),
    step("Expand", 7, Whole((2, 5))),
    step("ReduceMean", 8, axes=[1]),
    shape=(1, 4),
)
EXTREMES = (0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31), 2**34 - 41, 2**62, -(2**63))


def mutate(model: ModelProto, dice: random.Random) -> None:
    """Change the message in one place, as a hostile writer would."""
    nodes, tensors = model.graph.node, model.graph.initializer
    if not (nodes and tensors and model.graph.input and model.graph.output):
        return  # damaged before
    node: NodeProto = dice.choice(nodes)
    tensor: TensorProto = dice.choice(tensors)
    names = [name for n in nodes for name in (*n.input, *n.output)]
    match dice.randrange(14):
        case 0:
            node.op_type = dice.choice([*HANDLERS])
        case 1 if len(nodes) > 1:
            nodes.remove(node)
        case 2:
            nodes.insert(dice.randrange(len(nodes)), dice.choice(nodes))
        case 3 if node.input:
            node.input[dice.randrange(len(node.input))] = dice.choice([*names, ""])
        case 4 if names:
            node.input.append(dice.choice(names))
        case 5 if node.input:
            del node.input[dice.randrange(len(node.input)) :]
        case 6:
            node.output.append(f"extra{dice.random()}")
        case 7 if node.attribute:
            attribute = dice.choice(node.attribute)
            attribute.i = dice.choice(EXTREMES)
            attribute.f = dice.choice((0.0, 1e38, float("nan"), float("inf")))
            for i in range(len(attribute.ints)):
                attribute.ints[i] = dice.choice((*EXTREMES, attribute.ints[i]))
        case 8 if donors := [n for n in nodes if n.attribute]:
            donor = dice.choice(donors)
            node.attribute.append(dice.choice(donor.attribute))
        case 9 if tensor.dims:
            tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(EXTREMES)
        case 10:
            tensor.data_type = dice.randrange(20)
        case 11:
            kind = {1: np.float32, 7: np.int64}.get(tensor.data_type, np.float32)
            count = len(tensor.raw_data) // np.dtype(kind).itemsize
            values = [dice.choice(EXTREMES) for _ in range(count)]
            tensor.raw_data = np.array(values).astype(kind).tobytes()
        case 12 if dims := model.graph.input[0].type.tensor_type.shape.dim:
            dice.choice(dims).dim_value = dice.choice(EXTREMES)
        case _:
            model.graph.output[0].name = dice.choice([*names, ""])
