"""The ONNX operators that are read, one handler each.

A handler takes the inputs by position, None where an optional one is left out, and the attributes
by name, which are those that are modelled. What moved from an attribute to an input with a later
opset is taken from either.
"""

from __future__ import annotations

from typing import Any

from bounds.read.onnx.operators import arithmetic, layout, products, windows

HANDLERS: dict[str, Any] = {
    "Abs": arithmetic.abs_,
    "Add": arithmetic.add,
    "AveragePool": windows.average_pool,
    "BatchNormalization": products.batch_norm,
    "Cast": layout.cast,
    "Clip": arithmetic.clip,
    "Concat": layout.concat,
    "Constant": layout.constant,
    "ConstantOfShape": layout.constant_of_shape,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "Div": arithmetic.div,
    "Dropout": layout.dropout,
    "Exp": arithmetic.exp,
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Gather": layout.gather,
    "Gemm": products.gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "Identity": layout.identity,
    "LeakyRelu": arithmetic.leaky_relu,
    "MatMul": products.matmul,
    "Max": arithmetic.maximum,
    "MaxPool": windows.max_pool,
    "Min": arithmetic.minimum,
    "Mul": arithmetic.mul,
    "Neg": arithmetic.neg,
    "PRelu": arithmetic.prelu,
    "Pad": layout.pad,
    "Reciprocal": arithmetic.reciprocal,
    "ReduceMean": arithmetic.reduce_mean,
    "ReduceSum": arithmetic.reduce_sum,
    "Relu": arithmetic.relu,
    "Reshape": layout.reshape,
    "Shape": layout.shape,
    "Size": layout.size,
    "Slice": layout.slice_,
    "Split": layout.split,
    "Sqrt": arithmetic.sqrt,
    "Squeeze": layout.squeeze,
    "Sub": arithmetic.sub,
    "Sum": arithmetic.add,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
}
#: Operators that only pass on the size of an open batch, and by how many of their first inputs.
CARRIERS = {
    **{"Cast": 1, "Concat": 2**31, "Expand": 2, "Flatten": 1, "Gather": 1, "Identity": 1},
    **{"Reshape": 2, "Slice": 1, "Split": 1, "Squeeze": 1, "Transpose": 1, "Unsqueeze": 1},
}
