"""Whatever cannot be used or is not modelled is refused, with what arrived and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import bounds
from bounds import (
    Ball,
    InvalidInputError,
    Network,
    Relaxation,
    ReluBounds,
    Specification,
    UnsupportedLayerError,
    margins,
)

Thunk = Callable[[], object]

X = torch.zeros(2, 3)
NETWORK = Network.from_torch(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), (3,))
SPECIFICATION = margins(label=0, classes=3)


def refused(act: Thunk, error: type[Exception], *fragments: str) -> None:
    """`act` raises exactly `error`, in one sentence or two that hold every fragment."""
    with pytest.raises(error) as caught:
        act()
    assert caught.type is error
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


def read(model: nn.Module, *shape: int, **options: Any) -> Thunk:
    return lambda: Network.from_torch(model, shape or (3,), **options)


def changed(model: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    with torch.no_grad():
        change(model)
    return model


# -- models ----------------------------------------------------------------------------------------


class Net(nn.Module):
    """A linear layer, a buffer, and a `forward` that each case writes for itself."""

    buffer: Tensor

    def __init__(self, compute: Callable[[Net, Tensor], object]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.flat = nn.Flatten()
        self.relu_ = nn.ReLU(inplace=True)
        self.register_buffer("buffer", torch.ones(3))
        self.compute = compute

    def forward(self, x: Tensor) -> object:
        return self.compute(self, x)


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "Sigmoid": (nn.Sigmoid(), (3,)),
    "Tanh": (nn.Tanh(), (3,)),
    "GELU": (nn.GELU(), (3,)),
    "LeakyReLU": (nn.LeakyReLU(0.1), (3,)),
    "PReLU": (nn.PReLU(), (3,)),
    "ReLU6": (nn.ReLU6(), (3,)),
    "Softmax": (nn.Softmax(1), (3,)),
    "LayerNorm": (nn.LayerNorm(3), (3,)),
    "MaxPool2d": (nn.MaxPool2d(2), (1, 4, 4)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(1), (1, 4, 4)),
    "AvgPool1d": (nn.AvgPool1d(2), (1, 4)),
    "ConvTranspose2d": (nn.ConvTranspose2d(1, 1, 2), (1, 4, 4)),
    "Conv3d": (nn.Conv3d(1, 1, 2), (1, 3, 3, 3)),
    "InstanceNorm2d": (nn.InstanceNorm2d(1), (1, 4, 4)),
    "Upsample": (nn.Upsample(scale_factor=2), (1, 4, 4)),
    "LSTM": (nn.LSTM(3, 3), (2, 3)),
    "ParametrizedLinear": (parametrizations.weight_norm(nn.Linear(3, 3)), (3,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    layer, shape = LAYERS[name]
    model = nn.Sequential(nn.Identity(), layer.eval())
    refused(
        read(model, *shape), UnsupportedLayerError, "layer '1'", name, "not modelled", "rewrite"
    )


ATTRIBUTES: dict[str, tuple[nn.Module, tuple[int, ...], list[str]]] = {
    **{
        f"padding_mode={mode}": (
            nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode),
            (1, 4, 4),
            [f"padding_mode='{mode}'", "use padding_mode='zeros'"],
        )
        for mode in ("circular", "reflect", "replicate")
    },
    "Conv1d padding_mode": (
        nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"),
        (1, 4),
        ["padding_mode='circular'", "use padding_mode='zeros'"],
    ),
    "uneven same padding": (
        nn.Conv2d(1, 1, 2, padding="same"),
        (1, 4, 4),
        ["padding='same' with kernel (2, 2)", "use an odd kernel"],
    ),
    "ceil_mode": (
        nn.AvgPool2d(2, ceil_mode=True),
        (1, 4, 4),
        ["ceil_mode=True", "ceil_mode=False"],
    ),
    "count_include_pad": (
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        (1, 4, 4),
        ["count_include_pad=False with padding", "use count_include_pad=True or padding=0"],
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
    "Flatten of the batch": (nn.Flatten(0), (3,), ["flattens the batch axis", "from axis 1 on"]),
    "pruned": (
        prune.identity(nn.Linear(3, 3), "weight"),
        (3,),
        ["forward hooks", "remove the hooks"],
    ),
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


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hook_of_a_layer(register: str) -> None:
    for layer in (nn.Linear(3, 3), nn.ReLU(), nn.Flatten(), nn.Identity()):
        getattr(layer, register)(lambda *_: None)
        fragments = "layer '0'", "forward hooks", "remove the hooks"
        refused(read(nn.Sequential(layer)), UnsupportedLayerError, *fragments)


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_hook_of_every_module(kind: str) -> None:
    handle = getattr(nn.modules.module, f"register_module_{kind}")(lambda *_: None)
    try:
        refused(read(nn.Linear(3, 3)), UnsupportedLayerError, "forward hooks", "remove them")
    finally:
        handle.remove()


def test_forward_replaced_on_one_object() -> None:
    layer = nn.Linear(3, 3)
    layer.forward = lambda x: 2 * x  # type: ignore[method-assign,assignment]
    fragments = "layer '0'", "forward method was replaced", "a module of its own"
    refused(read(nn.Sequential(layer)), UnsupportedLayerError, *fragments)


# -- what a forward method may not do --------------------------------------------------------------


def relu_in_place(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return y.relu_() + y


def relu_in_place_by_argument(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return F.relu(y, True) + y


def relu_in_place_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return m.relu_(m.flat(y)) + y


def relu_in_place_of_a_dropout(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return F.dropout(y, training=False).relu_() + y


def sum_in_place(m: Net, x: Tensor) -> Tensor:
    y = z = m.linear(x)
    y += x
    return y + z


def difference_in_place(m: Net, x: Tensor) -> Tensor:
    y = z = m.linear(x)
    y -= 1
    return y + z


def product_in_place(m: Net, x: Tensor) -> Tensor:
    y = z = m.linear(x)
    y *= 2
    return y + z


def quotient_in_place_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    z = y.view(-1, 3)
    z /= 2
    return y


def input_in_place(m: Net, x: Tensor) -> Tensor:
    y = x
    y += 1
    return m.linear(x)


def buffer_in_place(m: Net, x: Tensor) -> Tensor:
    m.buffer.mul_(2)
    return x + m.buffer


def buffer_sum_in_place(m: Net, x: Tensor) -> Tensor:
    b = m.buffer
    b += 1
    return x + b


IN_PLACE = [
    *(relu_in_place, relu_in_place_by_argument, relu_in_place_of_a_view),
    *(relu_in_place_of_a_dropout, sum_in_place, difference_in_place, product_in_place),
    *(quotient_in_place_of_a_view, input_in_place, buffer_in_place, buffer_sum_in_place),
]


@pytest.mark.parametrize("compute", IN_PLACE)
def test_in_place_on_a_tensor_used_elsewhere(compute: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(compute)
    fragments = "in place a tensor that is used elsewhere", "the variant that is not in place"
    refused(read(model), UnsupportedLayerError, "layer '", *fragments)
    assert torch.equal(model.buffer, torch.ones(3))  # reading it has changed nothing


def branch(m: Net, x: Tensor) -> Tensor:
    return m.linear(x) if x.sum() > 0 else x


def loop_over_the_batch(m: Net, x: Tensor) -> Tensor:
    return torch.stack([m.linear(row) for row in x])


def assign(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    y[:, 0] = 0
    return y


FORWARD: dict[str, tuple[Callable[[Net, Tensor], object], list[str]]] = {
    "branch": (branch, ["cannot trace", "control flow", "remove control flow"]),
    "loop over the batch": (loop_over_the_batch, ["cannot trace", "remove control flow"]),
    "assignment to entries": (assign, ["cannot trace", "item assignment"]),
    "product": (lambda m, x: x * m.linear(x), ["second factor depends on the input", "constant"]),
    "square": (lambda m, x: x.mul(x), ["second factor depends on the input", "constant"]),
    "quotient": (lambda m, x: x / x, ["divisor depends on the input", "constant"]),
    "reciprocal": (lambda m, x: 1 / x, ["divisor depends on the input", "constant"]),
    "weight from the input": (
        lambda m, x: F.linear(m.buffer, x),
        ["weight depends on the input", "constant"],
    ),
    "max": (lambda m, x: torch.maximum(x, m.linear(x)), ["maximum is not modelled", "rewrite"]),
    "sigmoid": (lambda m, x: m.linear(x).sigmoid(), ["Tensor.sigmoid is not modelled", "rewrite"]),
    "F.gelu": (lambda m, x: F.gelu(x), ["gelu is not modelled", "rewrite"]),
    "F.leaky_relu": (lambda m, x: F.leaky_relu(x), ["leaky_relu is not modelled", "rewrite"]),
    "clamp": (lambda m, x: x.clamp(min=1), ["Tensor.clamp is not modelled", "rewrite"]),
    "abs": (lambda m, x: abs(m.linear(x)), ["abs is not modelled", "rewrite"]),
    "matmul": (lambda m, x: x @ m.linear.weight, ["matmul is not modelled", "rewrite"]),
    "indexing": (lambda m, x: x[:, :2], ["getitem is not modelled", "rewrite"]),
    "mean over the batch": (lambda m, x: x - x.mean(0), ["Tensor.mean is not modelled", "rewrite"]),
    "out=": (lambda m, x: torch.add(x, 1, out=m.buffer), ["add as called here", "'out'"]),
    "rounding": (
        lambda m, x: torch.div(x, 2, rounding_mode="floor"),
        ["div as called here", "rounding_mode"],
    ),
    "floor division": (lambda m, x: x // 2, ["floordiv is not modelled", "rewrite"]),
    "power": (lambda m, x: x**2, ["pow is not modelled", "rewrite"]),
    "batch size as a number": (lambda m, x: x * x.shape[0], ["mul as called here", "Batch"]),
    "random dropout": (lambda m, x: F.dropout(x), ["Dropout in training mode", "model.eval()"]),
    "x.view(-1)": (lambda m, x: x.view(-1), ["(-1,) does not keep one row a sample", "flatten(1)"]),
    "x.view(1, -1)": (lambda m, x: x.view(1, -1), ["(1, -1) does not keep one row a sample"]),
    "x.view(-1, 6)": (lambda m, x: x.view(-1, 6), ["(-1, 6) does not keep one row a sample"]),
    "x.reshape(3, -1)": (lambda m, x: x.reshape(3, -1), ["(3, -1) does not keep one row a sample"]),
    "batch inside": (
        lambda m, x: x.view(x.size(0), x.size(0), -1),
        ["does not keep one row a sample"],
    ),
    "torch.flatten(x)": (lambda m, x: torch.flatten(x), ["flattens the batch axis", "from axis 1"]),
    "several outputs": (lambda m, x: (x, m.linear(x)), ["returns tuple", "one tensor", "wrap"]),
    "dictionary": (lambda m, x: {"logits": m.linear(x)}, ["dict", "one tensor", "wrap the model"]),
    "constant": (lambda m, x: m.buffer, ["returns Tensor", "depends on its input", "wrap"]),
    "complex constant": (
        lambda m, x: x * torch.tensor(1j),
        ["numbers are torch.complex64", "use real"],
    ),
    "sizes that do not exist": (
        lambda m, x: x.view(x.size(0), x.shape[1:].numel()),
        ["numel as called here", "rewrite"],
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward(name: str) -> None:
    compute, fragments = FORWARD[name]
    refused(read(Net(compute)), UnsupportedLayerError, *fragments)


def test_several_inputs() -> None:
    fragments = "cannot trace TwoInputs", "missing 1 required", "'y'", "give it one input tensor"
    refused(read(TwoInputs()), UnsupportedLayerError, *fragments)


def test_not_a_module() -> None:
    function: Any = torch.relu
    refused(
        lambda: Network.from_torch(function, (3,)),
        InvalidInputError,
        "got a builtin_function_or_method",
        "expected a torch.nn.Module",
    )


# -- shapes and numbers of a model -----------------------------------------------------------------

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
    "normalisation": (
        read(nn.Sequential(nn.BatchNorm1d(4).eval()), 3),
        ["layer '0'", "(3,)", "4 channels", "check input_shape"],
    ),
    "sum": (
        read(Net(lambda m, x: m.flat(x) + x), 2, 3),
        ["layer 'add'", "(6,)", "(2, 3)", "without broadcasting"],
    ),
    "constant": (
        read(Net(lambda m, x: x + m.buffer), 4),
        ["layer 'add'", "(4,)", "the constant (3,)", "check input_shape"],
    ),
    "constant with a batch": (
        read(Net(lambda m, x: x + torch.ones(2, 3))),
        ["layer 'add'", "(3,)", "the constant (2, 3)"],
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
        lambda: Network.from_torch(nn.ReLU(), ()),
        ["input_shape is ()", "positive integers"],
    ),
    "input_shape of floats": (
        lambda: Network.from_torch(nn.ReLU(), (3.0,)),  # type: ignore[arg-type]
        ["input_shape is (3.0,)", "positive integers"],
    ),
    "half precision": (
        read(nn.Linear(3, 3).half()),
        ["dtype is torch.float16", "pass dtype=torch.float64"],
    ),
    "integer dtype": (read(nn.Linear(3, 3), dtype=torch.int64), ["torch.int64", "torch.float64"]),
    "NaN weight": (
        read(changed(nn.Sequential(nn.Linear(3, 3)), lambda m: m[0].weight[0, 0].fill_(math.nan))),
        ["layer '0'", "NaN or infinite in torch.float32", "check how they were"],
    ),
    "infinite bias": (
        read(changed(nn.Sequential(nn.Linear(3, 3)), lambda m: m[0].bias[0].fill_(-math.inf))),
        ["layer '0'", "NaN or infinite in torch.float32", "check how they were"],
    ),
    "too large for the dtype": (
        read(
            changed(nn.Sequential(nn.Linear(3, 3).double()), lambda m: m[0].bias[0].fill_(1e300)),
            dtype=torch.float32,
        ),
        ["layer '0'", "NaN or infinite in torch.float32"],
    ),
    "NaN statistics": (
        read(
            changed(
                nn.Sequential(nn.BatchNorm1d(3).eval()), lambda m: m[0].running_mean.fill_(math.nan)
            )
        ),
        ["layer '0'", "NaN or infinite", "check how they were"],
    ),
    "negative variance": (
        read(
            changed(nn.Sequential(nn.BatchNorm1d(3).eval()), lambda m: m[0].running_var.fill_(-1))
        ),
        ["layer '0'", "NaN or infinite", "check how they were"],
    ),
    "infinite constant": (
        read(Net(lambda m, x: x + math.inf)),
        ["layer 'add'", "NaN or infinite"],
    ),
    "division by 0": (read(Net(lambda m, x: x / 0)), ["layer 'truediv'", "NaN or infinite"]),
    "evaluation": (lambda: NETWORK(torch.zeros(1, 4)), ["(1, 4)", "(batch, 3)", "x.reshape"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_numbers(name: str) -> None:
    act, fragments = SHAPES[name]
    refused(act, InvalidInputError, *fragments)


# -- input sets ------------------------------------------------------------------------------------


def bad(name: str) -> Tensor:
    x = X.clone()
    x[1, 2] = {"nan": math.nan, "inf": math.inf}[name]
    return x


BALLS: dict[str, tuple[Callable[[], Ball], list[str]]] = {
    "list": (lambda: Ball([0.0], radius=1.0), ["type list", "x.float()"]),  # type: ignore[arg-type]
    "integers": (lambda: Ball(X.long(), radius=1.0), ["type torch.int64", "x.float()"]),
    "NaN x": (lambda: Ball(bad("nan"), radius=1.0), ["Ball(x)", "NaN or infinite", "remove"]),
    "infinite x": (lambda: Ball(bad("inf"), radius=1.0), ["Ball(x)", "NaN or infinite"]),
    "NaN radius": (lambda: Ball(X, radius=math.nan), ["Ball(radius)", "NaN or infinite"]),
    "infinite radius": (lambda: Ball(X, radius=math.inf), ["Ball(radius)", "NaN or infinite"]),
    "NaN in radii": (lambda: Ball(X, radius=bad("nan")), ["Ball(radius)", "NaN or infinite"]),
    "NaN lower": (lambda: Ball(X, radius=1.0, lower=math.nan), ["Ball(lower)", "NaN or infinite"]),
    "NaN upper": (lambda: Ball(X, radius=1.0, upper=bad("nan")), ["Ball(upper)", "NaN"]),
    "negative radius": (lambda: Ball(X, radius=-0.5), ["got -0.5", "at least 0"]),
    "a negative radius": (
        lambda: Ball(X, radius=torch.tensor([1.0, -2.0])),
        ["got -2.0", "at least 0"],
    ),
    "text radius": (
        lambda: Ball(X, radius="0.1"),  # type: ignore[arg-type]
        ["Ball(radius) got a str", "a number or a tensor"],
    ),
    "boolean radius": (lambda: Ball(X, radius=True), ["Ball(radius) got a bool", "a number"]),
    "empty radius": (lambda: Ball(X, radius=torch.zeros(0)), ["Ball(radius)", "real numbers"]),
    "complex radius": (lambda: Ball(X, radius=torch.tensor(1j)), ["Ball(radius)", "real numbers"]),
    "l2": (lambda: Ball(X, radius=1.0, norm=2), ["norm=2", "use norm=float('inf')"]),
    "NaN norm": (lambda: Ball(X, radius=1.0, norm=math.nan), ["norm=nan", "norm=float('inf')"]),
}


@pytest.mark.parametrize("name", BALLS)
def test_ball(name: str) -> None:
    act, fragments = BALLS[name]
    refused(act, InvalidInputError, *fragments)


RESOLVED: dict[str, tuple[Ball, list[str]]] = {
    "shape": (Ball(torch.zeros(2, 4), radius=1.0), ["(2, 4)", "expected (3,)", "reshape x"]),
    "axes": (Ball(torch.zeros(1, 2, 3), radius=1.0), ["(1, 2, 3)", "expected (3,)", "reshape x"]),
    "empty batch": (Ball(torch.zeros(0, 3), radius=1.0), ["(0, 3)", "empty batch", "at least one"]),
    "box above": (
        Ball(X, radius=0.1, lower=0.5),
        ["input 0", "no point in common", "check that x"],
    ),
    "box below": (Ball(X, radius=0.1, upper=-0.5), ["input 0", "no point in common", "check that"]),
    "box the wrong way round": (
        Ball(X, radius=1.0, lower=0.5, upper=-0.5),
        ["input 0", "no point in common", "lower ≤ upper"],
    ),
    "box off one input": (
        Ball(torch.tensor([[0.0] * 3, [0.0, 9.0, 0.0]]), radius=1.0, lower=0.0, upper=1.0),
        ["input 1", "no point in common"],
    ),
    "shape of radius": (
        Ball(X, radius=torch.ones(4)),
        ["Ball(radius) has shape (4,)", "a number, (2,)", "broadcasts to (2, 3)"],
    ),
    "axes of radius": (Ball(X, radius=torch.ones(1, 2, 3)), ["Ball(radius) has shape (1, 2, 3)"]),
    "shape of lower": (Ball(X, radius=1.0, lower=-torch.ones(4)), ["Ball(lower) has shape (4,)"]),
    "ambiguous radius": (
        Ball(torch.zeros(3, 3), radius=torch.ones(3)),
        ["Ball(radius) of shape (3,)", "one number an input or one a coordinate", "(3, 1)"],
    ),
    "ambiguous upper": (
        Ball(torch.zeros(3, 3), radius=1.0, upper=torch.ones(3)),
        ["Ball(upper) of shape (3,)", "one number an input or one a coordinate", "(3, 1)"],
    ),
}


@pytest.mark.parametrize("name", RESOLVED)
def test_resolved_ball(name: str) -> None:
    ball, fragments = RESOLVED[name]
    refused(
        lambda: bounds.relax(NETWORK, ball, SPECIFICATION),
        InvalidInputError,
        *fragments,
    )


# -- specifications --------------------------------------------------------------------------------

C = torch.ones(2, 3)
SPECIFICATIONS: dict[str, tuple[Thunk, list[str]]] = {
    "label too large": (lambda: margins(label=3, classes=3), ["has 3,", "0 … 2", "3 classes"]),
    "negative label": (lambda: margins(label=-1, classes=3), ["-1", "0 … 2", "3 classes"]),
    "one label too large": (
        lambda: margins(label=torch.tensor([0, 7]), classes=3),
        ["7", "0 … 2", "3 classes"],
    ),
    "float label": (
        lambda: margins(label=1.0, classes=3),  # type: ignore[arg-type]
        ["torch.float32", "expected integers"],
    ),
    "float labels": (
        lambda: margins(label=torch.zeros(2), classes=3),
        ["torch.float32", "expected integers"],
    ),
    "boolean label": (lambda: margins(label=True, classes=3), ["torch.bool", "integers"]),
    "labels of two axes": (
        lambda: margins(label=torch.zeros(2, 2, dtype=torch.long), classes=3),
        ["(2, 2)", "a number or (batch,)"],
    ),
    "no label": (lambda: margins(label=torch.zeros(0).long(), classes=3), ["(0,)", "(batch,)"]),
    "one class": (lambda: margins(label=0, classes=1), ["classes=1", "at least 2"]),
    "integers": (lambda: Specification(C.long()), ["got torch.int64", "floating-point"]),
    "list": (lambda: Specification([[1.0]]), ["got list", "floating-point"]),  # type: ignore[arg-type]
    "NaN rows": (lambda: Specification(C * math.nan), ["Specification(C)", "NaN or infinite"]),
    "infinite d": (
        lambda: Specification(C, torch.full((2,), math.inf)),
        ["Specification(d)", "NaN or infinite"],
    ),
    "one axis": (lambda: Specification(torch.ones(3)), ["shape (3,)", "(rows, outputs)"]),
    "no rows": (lambda: Specification(torch.ones(0, 3)), ["shape (0, 3)", "none of them 0"]),
    "shape of d": (
        lambda: Specification(C, torch.ones(3)),
        ["Specification(d) has shape (3,)", "expected (2,)", "one number a row"],
    ),
    "columns": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), Specification(torch.ones(2, 4))),
        ["4 columns", "3 outputs"],
    ),
    "margins of other classes": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), margins(label=0, classes=10)),
        ["10 columns", "3 outputs"],
    ),
    "batch": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), Specification(torch.ones(5, 1, 3))),
        ["5 inputs", "the ball has 2"],
    ),
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_specification(name: str) -> None:
    act, fragments = SPECIFICATIONS[name]
    refused(act, InvalidInputError, *fragments)


# -- relaxations and methods -----------------------------------------------------------------------


def relaxed(**options: Any) -> Relaxation:
    return bounds.relax(NETWORK, Ball(X, radius=0.5), SPECIFICATION, **options)


def given(**changes: Any) -> Thunk:
    """The relaxation with fields of its own in place of computed ones."""
    good = relaxed()
    fields = {name: getattr(good, name) for name in ("network", "box", "C", "d", "relu_bounds")}
    return lambda: Relaxation(**{**fields, **changes})


def relu_bounds(lower: float, upper: float, *shape: int) -> tuple[ReluBounds, ...]:
    return (ReluBounds(torch.full(shape, lower), torch.full(shape, upper)),)


RELAXATIONS: dict[str, tuple[Thunk, list[str]]] = {
    "intermediate": (
        lambda: relaxed(intermediate="best"),
        ["intermediate='best'", "'interval'", "'backward'"],
    ),
    "slope": (lambda: relaxed(slope="wavy"), ["slope='wavy'", "'fixed'", "'adaptive'"]),
    "dtype": (
        lambda: bounds.relax(NETWORK, Ball(X.double(), radius=1.0), SPECIFICATION),
        ["network in torch.float32", "inputs in torch.float64", "convert one with .to"],
    ),
    "bounds crossed": (
        given(relu_bounds=relu_bounds(1.0, -1.0, 2, 4)),
        ["bounds of ReLU '1'", "l > u", "the wrong way round"],
    ),
    "NaN bounds": (given(relu_bounds=relu_bounds(math.nan, 1.0, 2, 4)), ["ReLU '1'", "NaN"]),
    "infinite bounds": (
        given(relu_bounds=relu_bounds(-math.inf, 1.0, 2, 4)),
        ["lower bounds of '1'", "NaN or infinite", "use float64"],
    ),
    "shape of bounds": (
        given(relu_bounds=relu_bounds(-1.0, 1.0, 2, 5)),
        ["lower bounds of '1'", "(2, 5)", "expected (2, 4)"],
    ),
    "number of bounds": (given(relu_bounds=()), ["bounds for 0 ReLUs", "has 1"]),
    "shape of d": (given(d=torch.zeros(2, 5)), ["d of shape (2, 5)", "expected (2, 2)"]),
    "NaN row": (given(C=torch.full((2, 2, 3), math.nan)), ["C has NaN", "use float64"]),
}


@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxation(name: str) -> None:
    act, fragments = RELAXATIONS[name]
    refused(act, InvalidInputError, *fragments)


def test_overflow_is_refused() -> None:
    """Finite weights whose products are not."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.weight, 1e30)
    network = Network.from_torch(model, (3,))
    for intermediate in ("interval", "backward"):
        refused(
            lambda how=intermediate: bounds.relax(  # type: ignore[misc]
                network, Ball(X + 1, radius=1.0), SPECIFICATION, intermediate=how
            ),
            InvalidInputError,
            "torch.float32",
            "overflow",
        )


SOLVES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "method": ({"method": "magic"}, ["method='magic'", "'exact'", "'fixed_slope'"]),
    "tolerance of 0": ({"tolerance": 0.0}, ["tolerance=0.0", "(0, 1)"]),
    "tolerance of 1": ({"tolerance": 1.0}, ["tolerance=1.0", "(0, 1)"]),
    "negative tolerance": ({"tolerance": -1e-9}, ["tolerance=-1e-09", "(0, 1)"]),
    "NaN tolerance": ({"tolerance": math.nan}, ["tolerance=nan", "(0, 1)"]),
    "no iterations": ({"iteration_limit": 0}, ["iteration_limit=0", "at least 1"]),
    "no time": ({"time_limit": 0.0}, ["time_limit=0.0", "a positive time in seconds"]),
    "NaN time": ({"time_limit": math.nan}, ["time_limit=nan", "a positive time"]),
    **{
        f"{option} of {method}": (
            {"method": method, option: value},
            [f"method='{method}'", f"{option}={value}", "leave it out"],
        )
        for method in ("fixed_slope", "adaptive_slope")
        for option, value in (("tolerance", 0.1), ("iteration_limit", 5), ("time_limit", 1.0))
    },
}


@pytest.mark.parametrize("name", SOLVES)
def test_solve(name: str) -> None:
    options, fragments = SOLVES[name]
    refused(lambda: bounds.solve(relaxed(), **options), InvalidInputError, *fragments)


def test_solve_of_something_else() -> None:
    other: Any = NETWORK
    fragments = "got a Network", "expected a Relaxation", "bounds.relax(net, ball, spec)"
    refused(lambda: bounds.solve(other), InvalidInputError, *fragments)


def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="tolerence"):
        bounds.solve(relaxed(), tolerence=1e-3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="intermediates"):
        relaxed(intermediates="backward")


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        bounds.solve(relaxed(), "exact")  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Ball(X, 0.1)  # type: ignore[misc,call-arg]


def test_every_error_is_the_packages_own() -> None:
    for error in (InvalidInputError, UnsupportedLayerError):
        assert issubclass(error, bounds.BoundsError)
    assert issubclass(InvalidInputError, ValueError)
