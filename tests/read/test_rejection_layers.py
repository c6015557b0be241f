"""Layers, attributes and numbers of a model that are refused, with what arrived and the remedy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bounds import InvalidInputError, UnsupportedLayerError, from_torch
from tests.support.refusals import Net, Thunk, changed, read, refused

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "Sigmoid": (nn.Sigmoid(), (3,)),
    "Tanh": (nn.Tanh(), (3,)),
    "GELU": (nn.GELU(), (3,)),
    "ELU": (nn.ELU(), (3,)),
    "Hardswish": (nn.Hardswish(), (3,)),
    "LayerNorm": (nn.LayerNorm(3), (3,)),
    "LPPool2d": (nn.LPPool2d(2, 2), (1, 4, 4)),
    "MaxPool3d": (nn.MaxPool3d(2), (1, 3, 3, 3)),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d(1), (1, 4, 4)),
    "Conv3d": (nn.Conv3d(1, 1, 2), (1, 3, 3, 3)),
    "InstanceNorm2d": (nn.InstanceNorm2d(1), (1, 4, 4)),
    "LSTM": (nn.LSTM(3, 3), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    layer, shape = LAYERS[name]
    model = nn.Sequential(nn.Identity(), layer.eval())
    refused(
        read(model, *shape), UnsupportedLayerError, "layer '1'", name, "not modelled", "rewrite"
    )


ATTRIBUTES: dict[str, tuple[nn.Module, tuple[int, ...], list[str]]] = {
    "mode of Upsample": (
        nn.Upsample(scale_factor=2, mode="bilinear"),
        (1, 4, 4),
        ["mode 'bilinear' is not modelled", "use mode='nearest'"],
    ),
    "return_indices": (
        nn.MaxPool2d(2, return_indices=True),
        (1, 4, 4),
        ["return_indices=True", "use return_indices=False"],
    ),
    "windows of padding": (
        nn.MaxPool2d(2, padding=1, dilation=2),
        (1, 1, 1),
        ["in the padding alone", "use less padding"],
    ),
    "BatchNorm in training mode": (
        nn.BatchNorm1d(3).train(),
        (3,),
        ["BatchNorm normalises by the batch", "call model.eval()"],
    ),
    "BatchNorm without statistics": (
        nn.BatchNorm1d(3, track_running_stats=False).eval(),
        (3,),
        ["BatchNorm normalises by the batch", "track_running_stats=True"],
    ),
    "Dropout in training mode": (nn.Dropout(0.5).train(), (3,), ["Dropout", "call model.eval()"]),
    "Flatten of the batch": (
        nn.Flatten(0),
        (3,),
        ["along the batch axis", "keep one row a sample"],
    ),
    "Unflatten of the batch": (nn.Unflatten(0, (1, 1)), (3,), ["along the batch axis"]),
    "Softmax": (nn.Softmax(1), (3,), ["softmax is not piecewise linear", "drop_softmax=True"]),
    "complex weights": (
        nn.Linear(3, 3, dtype=torch.complex64),
        (3,),
        ["numbers are torch.complex64", "use real floating-point numbers"],
    ),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute(name: str) -> None:
    layer, shape, fragments = ATTRIBUTES[name]
    model = nn.Sequential(nn.Identity(), layer)
    refused(read(model, *shape), UnsupportedLayerError, "layer '1'", *fragments)


def test_modules_that_cannot_be_called() -> None:
    scripted = nn.Sequential(torch.jit.script(nn.Linear(3, 3)))
    refused(read(scripted), UnsupportedLayerError, "is TorchScript", "the module that it was made")
    refused(read(nn.LazyLinear(3)), InvalidInputError, "parameters without a shape", "once first")
    nowhere = nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 2))
    refused(read(nowhere), UnsupportedLayerError, "layer '0'", "the shape (0,)", "none of size 0")


# -- shapes and numbers

SHAPES: dict[str, tuple[Thunk, list[str]]] = {
    "features": (
        read(nn.Sequential(nn.Linear(4, 2)), 3),
        ["layer '0'", "(3,)", "4 features", "check input_shape"],
    ),
    "channels": (
        read(nn.Sequential(nn.Conv2d(3, 1, 1)), 1, 4, 4),
        ["layer '0'", "(1, 4, 4)", "3 channels", "check input_shape"],
    ),
    "axes": (
        read(nn.Sequential(nn.Conv2d(1, 1, 1)), 4, 4),
        ["layer '0'", "(4, 4)", "2 spatial axes", "check input_shape"],
    ),
    "kernel": (
        read(nn.Sequential(nn.Conv1d(1, 1, 5)), 1, 4),
        ["layer '0'", "(1, 4)", "kernel's extent (5,)", "check input_shape"],
    ),
    "pooling": (
        read(nn.Sequential(nn.AvgPool2d(2)), 4),
        ["layer '0'", "(4,)", "(channels, height, width)", "check input_shape"],
    ),
    "pooling of an image by its rows": (
        read(nn.Sequential(nn.MaxPool1d(2)), 1, 4, 4),
        ["layer '0'", "(1, 4, 4)", "(channels, length)", "check input_shape"],
    ),
    "adaptive pooling": (
        read(nn.Sequential(nn.AdaptiveAvgPool2d(1)), 4, 4),
        ["layer '0'", "(4, 4)", "(channels, height, width)", "check input_shape"],
    ),
    "slopes": (
        read(nn.Sequential(nn.PReLU(4)), 3),
        ["layer '0'", "(3,)", "4 channels", "check input_shape"],
    ),
    "transposed channels": (
        read(nn.Sequential(nn.ConvTranspose1d(3, 1, 1)), 1, 4),
        ["layer '0'", "(1, 4)", "3 channels", "check input_shape"],
    ),
    "NaN slope": (
        read(nn.Sequential(nn.LeakyReLU(math.nan))),
        ["layer '0'", "NaN or infinite in torch.float32"],
    ),
    "normalisation": (
        read(nn.Sequential(nn.BatchNorm1d(4).eval()), 3),
        ["layer '0'", "(3,)", "4 channels", "check input_shape"],
    ),
    "sum": (
        read(Net(lambda m, x: m.flat(x) + x), 2, 3),
        ["layer 'add'", "(6,)", "broadcasts with the other's shape (2, 3)"],
    ),
    "constant": (
        read(Net(lambda m, x: x + m.buffer), 4),
        ["layer 'add'", "(4,)", "the constant (3,)", "check input_shape"],
    ),
    "constant with a batch": (
        read(Net(lambda m, x: x + torch.ones(2, 3))),
        ["layer 'add'", "(3,)", "the constant (2, 3)"],
    ),
    "axis": (
        read(Net(lambda m, x: x.flip(2))),
        ["layer 'flip'", "(3,)", "an axis 2, the batch axis counted"],
    ),
    "flatten": (
        read(Net(lambda m, x: x.flatten(2, 1)), 2, 3),
        ["layer 'flatten'", "(2, 3)", "axis 2 not to come behind axis 1"],
    ),
    "parts": (
        read(Net(lambda m, x: x.split([1, 1], 1)[0])),
        ["layer 'split'", "(3,)", "parts of (1, 1)"],
    ),
    "narrow": (
        read(Net(lambda m, x: x.narrow(1, 2, 2))),
        ["layer 'narrow'", "(3,)", "4 entries along axis 1"],
    ),
    "view": (
        read(Net(lambda m, x: x.view(x.size(0), 2, -1))),
        ["layer 'view'", "(3,)", "reshapes to (2, -1)"],
    ),
    "batch in input_shape": (
        read(nn.Linear(3, 3), 0, 3),
        ["input_shape is (0, 3)", "positive integers without the batch axis"],
    ),
    "empty input_shape": (
        lambda: from_torch(nn.ReLU(), ()),
        ["input_shape is ()", "positive integers"],
    ),
    "input_shape that is a number": (
        lambda: from_torch(nn.ReLU(), 4),  # type: ignore[arg-type]
        ["input_shape is 4", "such as (1, 28, 28)"],
    ),
    "no input_shape": (
        lambda: from_torch(nn.ReLU(), None),  # type: ignore[arg-type]
        ["input_shape is None", "positive integers"],
    ),
    "input_shape of floats": (
        lambda: from_torch(nn.ReLU(), (3.0,)),  # type: ignore[arg-type]
        ["input_shape is (3.0,)", "positive integers"],
    ),
    "half precision": (
        read(nn.Linear(3, 3).half()),
        ["dtype is torch.float16", "pass dtype=torch.float64"],
    ),
    "integer dtype": (read(nn.Linear(3, 3), dtype=torch.int64), ["torch.int64", "torch.float64"]),
    "NaN weight": (
        read(changed(nn.Linear(3, 3), lambda m: m.weight[0, 0].fill_(math.nan))),
        ["layer '0'", "NaN or infinite in torch.float32", "check how they were"],
    ),
    "infinite bias": (
        read(changed(nn.Linear(3, 3), lambda m: m.bias[0].fill_(-math.inf))),
        ["layer '0'", "NaN or infinite in torch.float32", "check how they were"],
    ),
    "too large for the dtype": (
        read(
            changed(nn.Linear(3, 3).double(), lambda m: m.bias[0].fill_(1e300)),
            dtype=torch.float32,
        ),
        ["layer '0'", "NaN or infinite in torch.float32"],
    ),
    "NaN statistics": (
        read(changed(nn.BatchNorm1d(3).eval(), lambda m: m.running_mean.fill_(math.nan))),
        ["layer '0'", "NaN or infinite", "check how they were"],
    ),
    "negative variance": (
        read(changed(nn.BatchNorm1d(3).eval(), lambda m: m.running_var.fill_(-1))),
        ["layer '0'", "NaN or infinite", "check how they were"],
    ),
    "infinite constant": (
        read(Net(lambda m, x: x + math.inf)),
        ["layer 'add'", "NaN or infinite"],
    ),
    "division by 0": (read(Net(lambda m, x: x / 0)), ["layer 'div'", "NaN or infinite"]),
    "evaluation": (
        lambda: from_torch(nn.Linear(3, 3), (3,))(torch.zeros(1, 4)),
        ["(1, 4)", "(batch, 3)", "x.reshape"],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_numbers(name: str) -> None:
    act, fragments = SHAPES[name]
    refused(act, InvalidInputError, *fragments)
