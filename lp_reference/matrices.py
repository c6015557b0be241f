"""The sparse matrix and the bias of each affine operation, by index arithmetic on its parameters.

Samples are flattened in C order, as `Tensor.reshape(-1)` does. Nothing here calls the operation's
own forward or adjoint: a mistake there must not be able to hide.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from bounds import UnsupportedLayerError
from bounds.network.affine import Affine, Linear, Reshape, Scale, Shape, Transposed
from bounds.network.convolution import Convolution
from bounds.network.indexing import Select
from bounds.network.sparse import SparseLinear


def float64(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor on any device, in any dtype, out of the reach of gradients."""
    return tensor.detach().cpu().double().numpy()


def affine_matrix(operation: Affine) -> tuple[sp.csr_array, np.ndarray]:
    """W and b of y = W x + b on flattened samples.

    Returns:
        W of shape (outputs, inputs) and b of shape (outputs,), both float64. Every coefficient of
        the operation is kept, however small.

    Raises:
        UnsupportedLayerError: an operation that has no matrix here.
    """
    match operation:
        case SparseLinear():
            return _linear(operation.dense)
        case Linear():
            return _linear(operation)
        case Convolution():
            return _convolution(operation)
        case Scale():
            return _scale(operation)
        case Reshape():
            size = math.prod(operation.input_shape)
            return sp.eye_array(size, format="csr"), np.zeros(size)
        case Select():
            return _select(operation)
        case Transposed():
            matrix, _ = affine_matrix(operation.operation)
            return sp.csr_array(matrix.T), _spread(operation.bias, operation.output_shape)
    raise UnsupportedLayerError(
        f"lp_reference got the operation {type(operation).__name__}, expected Linear, Convolution, "
        "Scale, Reshape, Select or Transposed: add its matrix to lp_reference/matrices.py."
    )


def _spread(bias: Tensor | None, shape: Shape) -> np.ndarray:
    """The bias of every output, flat."""
    numbers = 0.0 if bias is None else float64(bias)
    return np.broadcast_to(numbers, shape).ravel().astype(float)


def _linear(operation: Linear) -> tuple[sp.csr_array, np.ndarray]:
    weight = float64(operation.weight)
    copies = math.prod(operation.input_shape[:-1])
    bias = np.zeros(len(weight)) if operation.bias is None else float64(operation.bias)
    matrix = sp.kron(sp.eye_array(copies), sp.coo_array(weight), format="csr")
    return sp.csr_array(matrix), np.tile(bias, copies)


def _scale(operation: Scale) -> tuple[sp.csr_array, np.ndarray]:
    shape = operation.input_shape
    factors = np.broadcast_to(float64(operation.scale), shape).ravel()
    return sp.diags_array(factors, format="csr"), _spread(operation.shift, shape)


def _select(operation: Select) -> tuple[sp.csr_array, np.ndarray]:
    """Output i reads input index[i], which is one entry a row."""
    columns = operation.index.cpu().numpy().ravel()
    outputs, inputs = len(columns), math.prod(operation.input_shape)
    matrix = sp.csr_array(
        (np.ones(outputs), (np.arange(outputs), columns)), shape=(outputs, inputs)
    )
    return matrix, np.zeros(outputs)


def _convolution(operation: Convolution) -> tuple[sp.csr_array, np.ndarray]:
    """Output (o, p) reads input (c, p · stride − padding + k · dilation) times weight[o, c, k].

    o and c are channels, p a place of the output and k one of the kernel, with one index an axis.
    """
    weight = float64(operation.weight)
    channels, group_inputs, *kernel = weight.shape
    inputs, outputs = operation.input_shape[1:], operation.output_shape[1:]
    offsets, places = math.prod(kernel), math.prod(outputs)

    # The flat input place that each pair (k, p) reads, and whether the input has it.
    read = np.zeros((offsets, places), dtype=np.int64)
    on_input = np.ones((offsets, places), dtype=bool)
    for k, p, size, stride, padding, dilation in zip(
        np.indices(kernel).reshape(len(kernel), -1),
        np.indices(outputs).reshape(len(outputs), -1),
        inputs,
        operation.stride,
        operation.padding,
        operation.dilation,
        strict=True,
    ):
        position = p[None, :] * stride - padding + k[:, None] * dilation
        read = read * size + position
        on_input &= (position >= 0) & (position < size)
    k, p = np.nonzero(on_input)
    read = read[k, p]

    # Axes of the entries: output channel, input channel within its group, pairs (k, p).
    channel = np.arange(channels)[:, None, None]
    within = np.arange(group_inputs)[None, :, None]
    source = channel // (channels // operation.groups) * group_inputs + within
    shape = (channels, group_inputs, len(k))
    values = weight.reshape(channels, group_inputs, offsets)[:, :, k]
    rows = np.broadcast_to(channel * places + p, shape)
    columns = np.broadcast_to(source * math.prod(inputs) + read, shape)
    matrix = sp.coo_array(
        (values.ravel(), (rows.ravel(), columns.ravel())),
        shape=(channels * places, operation.input_shape[0] * math.prod(inputs)),
    )
    bias = np.zeros(channels) if operation.bias is None else float64(operation.bias)
    return matrix.tocsr(), np.repeat(bias, places)
