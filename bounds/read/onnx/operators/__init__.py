"""The ONNX operators that are read, one handler each.

A handler takes the inputs by position, None where an optional one is left out, and the attributes
by name, which are those that are modelled. What moved from an attribute to an input with a later
opset is taken from either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.read.onnx.operators import arithmetic, constants, layout, products, resizing, windows
from bounds.read.onnx.operators.constants import asked, of_constants

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
    "DepthToSpace": layout.depth_to_space,
    "DequantizeLinear": constants.dequantize,
    "Div": arithmetic.div,
    "Dropout": layout.dropout,
    "Equal": asked(np.equal),
    "Exp": of_constants(np.exp, floats=True),
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Floor": of_constants(np.floor, floats=True),
    "Gather": layout.gather,
    "GatherND": layout.gather_nd,
    "Gemm": products.gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "Greater": asked(np.greater),
    "HardSigmoid": arithmetic.hard_sigmoid,
    "Identity": layout.identity,
    "LeakyRelu": arithmetic.leaky_relu,
    "Less": asked(np.less),
    "LogSoftmax": arithmetic.log_softmax,
    "MatMul": products.matmul,
    "Max": arithmetic.maximum,
    "MaxPool": windows.max_pool,
    "Mean": arithmetic.mean,
    "Min": arithmetic.minimum,
    "Mul": arithmetic.mul,
    "Neg": arithmetic.neg,
    "Not": asked(np.logical_not),
    "PRelu": arithmetic.prelu,
    "Pad": layout.pad,
    "Pow": of_constants(np.power),
    "Range": constants.range_,
    "Reciprocal": of_constants(np.reciprocal, floats=True),
    "ReduceMax": arithmetic.reduction(arithmetic.largest_of),
    "ReduceMean": arithmetic.reduction(arithmetic.mean_of),
    "ReduceMin": arithmetic.reduction(arithmetic.smallest_of),
    "ReduceSum": arithmetic.reduction(arithmetic.total_of),
    "Relu": arithmetic.relu,
    "Reshape": layout.reshape,
    "Resize": resizing.resize,
    "Shape": layout.shape,
    "Shrink": arithmetic.shrink,
    "Size": layout.size,
    "Slice": layout.slice_,
    "Softmax": arithmetic.softmax,
    "SpaceToDepth": layout.space_to_depth,
    "Split": layout.split,
    "Sqrt": of_constants(np.sqrt, floats=True),
    "Squeeze": layout.squeeze,
    "Sub": arithmetic.sub,
    "Sum": arithmetic.add,
    "ThresholdedRelu": arithmetic.thresholded_relu,
    "Tile": resizing.tile,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
    "Upsample": resizing.upsample,
    "Where": arithmetic.where,
}
#: Operators that are read where what they take, or all but one of it, is constant: of what depends
#: on the input they are not piecewise linear, or not continuous.
LIMITED = {
    *("Cast", "DequantizeLinear", "Div", "Equal", "Exp", "Floor", "Greater", "Less", "LogSoftmax"),
    *("Mul", "Not", "Pow", "Range", "Reciprocal", "Shrink", "Softmax", "Sqrt", "ThresholdedRelu"),
    "Where",
}
#: Operators that draw numbers.
RANDOM = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
    "RandomUniformLike",
}
#: Operators that only pass on the size of an open batch, and by how many of their first inputs.
CARRIERS = {
    **{"Cast": 1, "Concat": 2**31, "Equal": 2, "Expand": 2, "Flatten": 1, "Gather": 1},
    **{"Identity": 1, "Reshape": 2, "Slice": 1, "Split": 1, "Squeeze": 1, "Transpose": 1},
    **{"Unsqueeze": 1, "Where": 3},
}
