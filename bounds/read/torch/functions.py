"""Functions, methods and attributes of tensors that a traced module may use: their handlers."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F

from bounds.read.operations import arithmetic, axes, layers, shapes
from bounds.read.operations.common import Handler

FUNCTIONS: dict[Any, Handler] = {
    # layers
    **dict.fromkeys((F.dropout,), layers.dropout),
    **dict.fromkeys((F.linear,), layers.linear),
    **dict.fromkeys((F.conv1d, F.conv2d), layers.convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d), layers.convolution_transpose),
    **dict.fromkeys((F.batch_norm,), layers.batch_norm),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), layers.max_pool(1)),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), layers.max_pool(2)),
    **dict.fromkeys((F.avg_pool1d,), layers.average_pool(1)),
    **dict.fromkeys((F.avg_pool2d,), layers.average_pool(2)),
    **dict.fromkeys((F.adaptive_avg_pool1d,), layers.adaptive_average_pool(1)),
    **dict.fromkeys((F.adaptive_avg_pool2d,), layers.adaptive_average_pool(2)),
    # arithmetic
    **dict.fromkeys((torch.add, operator.add, operator.iadd), arithmetic.add),
    **dict.fromkeys((torch.sub, operator.sub, operator.isub), arithmetic.sub),
    **dict.fromkeys((torch.mul, operator.mul, operator.imul), arithmetic.mul),
    **dict.fromkeys((torch.div, operator.truediv, operator.itruediv), arithmetic.div),
    **dict.fromkeys((torch.neg, operator.neg), arithmetic.neg),
    **dict.fromkeys((torch.matmul, operator.matmul, torch.mm), arithmetic.matmul),
    **dict.fromkeys((F.relu, torch.relu, torch.relu_), arithmetic.relu),
    **dict.fromkeys((F.leaky_relu,), arithmetic.leaky_relu),
    **dict.fromkeys((F.prelu, torch.prelu), arithmetic.prelu),
    **dict.fromkeys((F.relu6,), arithmetic.relu6),
    **dict.fromkeys((F.hardtanh,), arithmetic.hardtanh),
    **dict.fromkeys((torch.clamp, torch.clip), arithmetic.clamp),
    **dict.fromkeys((torch.clamp_min,), arithmetic.clamp_min),
    **dict.fromkeys((torch.clamp_max,), arithmetic.clamp_max),
    **dict.fromkeys((torch.abs, operator.abs), arithmetic.absolute),
    **dict.fromkeys((torch.maximum,), arithmetic.maximum),
    **dict.fromkeys((torch.minimum,), arithmetic.minimum),
    # axes
    **dict.fromkeys((torch.flatten,), shapes.flatten),
    **dict.fromkeys((torch.unflatten,), shapes.unflatten),
    **dict.fromkeys((torch.reshape,), shapes.reshape),
    **dict.fromkeys((torch.squeeze,), shapes.squeeze),
    **dict.fromkeys((torch.unsqueeze,), shapes.unsqueeze),
    **dict.fromkeys((torch.permute,), shapes.permute),
    **dict.fromkeys((torch.transpose,), shapes.transpose),
    **dict.fromkeys((torch.swapaxes,), shapes.swapaxes),
    **dict.fromkeys((torch.flip,), shapes.flip),
    **dict.fromkeys((operator.getitem,), axes.getitem),
    **dict.fromkeys((torch.index_select,), axes.index_select),
    **dict.fromkeys((torch.narrow,), axes.narrow),
    **dict.fromkeys((torch.select,), axes.select),
    **dict.fromkeys((torch.split,), axes.split),
    **dict.fromkeys((torch.chunk,), axes.chunk),
    **dict.fromkeys((torch.unbind,), axes.unbind),
    **dict.fromkeys((torch.cat, torch.concat), axes.cat),
    **dict.fromkeys((torch.stack,), axes.stack),
    **dict.fromkeys((F.pad,), axes.pad),
    **dict.fromkeys((F.interpolate,), axes.interpolate),
    **dict.fromkeys((torch.mean,), axes.mean),
    **dict.fromkeys((torch.sum,), axes.total),
}
METHODS: dict[str, Handler] = {
    **dict.fromkeys(("add", "add_"), arithmetic.add),
    **dict.fromkeys(("sub", "sub_"), arithmetic.sub),
    **dict.fromkeys(("mul", "mul_"), arithmetic.mul),
    **dict.fromkeys(("div", "div_"), arithmetic.div),
    **dict.fromkeys(("neg",), arithmetic.neg),
    **dict.fromkeys(("matmul", "mm"), arithmetic.matmul),
    **dict.fromkeys(("relu", "relu_"), arithmetic.relu),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), arithmetic.clamp),
    **dict.fromkeys(("clamp_min", "clamp_min_"), arithmetic.clamp_min),
    **dict.fromkeys(("clamp_max", "clamp_max_"), arithmetic.clamp_max),
    **dict.fromkeys(("abs", "abs_"), arithmetic.absolute),
    "maximum": arithmetic.maximum,
    "minimum": arithmetic.minimum,
    **dict.fromkeys(("view", "reshape"), shapes.variadic(shapes.reshape)),
    "contiguous": layers.identity,
    "flatten": shapes.flatten,
    "unflatten": shapes.unflatten,
    "size": shapes.size,
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    "expand": shapes.variadic(shapes.expand),
    "repeat": shapes.variadic(shapes.repeat),
    "permute": shapes.variadic(shapes.permute),
    "transpose": shapes.transpose,
    "swapaxes": shapes.swapaxes,
    "flip": shapes.variadic(shapes.flip),
    "index_select": axes.index_select,
    "narrow": axes.narrow,
    "select": axes.select,
    "split": axes.split,
    "chunk": axes.chunk,
    "unbind": axes.unbind,
    "mean": axes.mean,
    "sum": axes.total,
}
#: What may be asked of a tensor without a call.
ATTRIBUTES: dict[str, Handler] = {"shape": shapes.size, "mT": shapes.matrix_transpose}
#: Functions that change their first argument in place.
IN_PLACE = {torch.relu_, operator.iadd, operator.isub, operator.imul, operator.itruediv}
