"""What a model's forward method may not do, with what arrived and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds import InvalidInputError, UnsupportedLayerError, from_torch
from tests.support.refusals import Net, read, refused


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def relu_in_place_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return m.relu_(m.flat(y)) + y


def relu_in_place_of_a_dropout(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return F.dropout(y, training=False).relu_() + y


def abs_in_place_of_a_part(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    return y[:, :2].abs_().sum(1, keepdim=True) + y


def clamp_in_place_of_a_transpose(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x).unsqueeze(1)
    return y.mT.clamp_(min=0).squeeze(2) + y.squeeze(1)


def relu_in_place_of_a_chunk(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    part = y.chunk(3, 1)[0]
    return part.relu_() + y


def quotient_in_place_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    z = y.view(-1, 3)
    z /= 2
    return y


def clamp_in_place_of_a_move(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x).unsqueeze(1)
    y.movedim(1, 2).clamp_(max=1e9)  # which no evaluation meets
    return y.squeeze(1)


def clamp_in_place_of_a_reshape(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    y.reshape_as(x).clamp_(max=1e9)
    return y


def buffer_in_place(m: Net, x: Tensor) -> Tensor:
    m.buffer.mul_(2)
    return x + m.buffer


def buffer_sum_in_place(m: Net, x: Tensor) -> Tensor:
    b = m.buffer
    b += 1
    return x + b


def batch_norm_in_training_mode(m: Net, x: Tensor) -> Tensor:
    m.buffer.add_(1)
    return nn.functional.batch_norm(x, m.buffer, m.buffer, training=True)


IN_PLACE = [
    *(relu_in_place_of_a_view, abs_in_place_of_a_part, clamp_in_place_of_a_transpose),
    *(relu_in_place_of_a_chunk, relu_in_place_of_a_dropout, quotient_in_place_of_a_view),
    *(clamp_in_place_of_a_move, clamp_in_place_of_a_reshape),
]


@pytest.mark.parametrize("compute", IN_PLACE)
def test_in_place_on_a_tensor_whose_views_are_used(
    compute: Callable[[Net, Tensor], Tensor],
) -> None:
    fragments = "of which another view was changed in place", "the variant that is not in place"
    refused(read(Net(compute)), UnsupportedLayerError, "layer '", *fragments)


@pytest.mark.parametrize(
    "compute", [buffer_in_place, buffer_sum_in_place, batch_norm_in_training_mode]
)
def test_in_place_on_what_the_model_keeps(compute: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(compute)
    fragments = "changes a parameter or buffer in place", "keep state out of forward"
    refused(read(model), UnsupportedLayerError, "layer '", *fragments)
    assert torch.equal(model.buffer, torch.ones(3))  # reading it has changed nothing


def branch(m: Net, x: Tensor) -> Tensor:
    return m.linear(x) if x.abs() <= 0 else x


def loop_over_the_batch(m: Net, x: Tensor) -> Tensor:
    return torch.stack([m.linear(row) for row in x])


def assign(m: Net, x: Tensor) -> Tensor:
    y = m.linear(x)
    y[:, 0] = 0
    return y


def change_a_constant(m: Net, x: Tensor) -> Tensor:
    total = torch.zeros(1, 3)
    total.add_(F.relu(x - 1e9).sum(1, keepdim=True))
    return x + total


def unlike_the_stand_in(m: Net, x: Tensor) -> Tensor:
    if type(x) is Tensor:
        raise ValueError("no")
    return x


FORWARD: dict[str, tuple[Callable[[Net, Tensor], object], list[str]]] = {
    "branch": (branch, ["le is not modelled", "rewrite"]),
    "a sign": (lambda m, x: m.linear(x) if x else x, ["layer '__bool__'", "control flow"]),
    "loop over the batch": (loop_over_the_batch, ["works along the batch axis", "one row"]),
    "loop over a range": (
        lambda m, x: torch.stack([x[i] for i in range(x.shape[0])]),
        ["does not keep one row a sample"],
    ),
    "a number taken out": (lambda m, x: x * float(x), ["layer '__float__'", "control flow"]),
    "assignment to entries": (assign, ["assigns to some of a tensor's numbers", "torch.cat"]),
    "a batch of one": (lambda m, x: x if x.shape[0] == 1 else 2 * x, ["the size of the batch"]),
    "a batch of even size": (lambda m, x: x if x.shape[0] & 1 else 2 * x, ["size of the batch"]),
    "a batch as a number": (lambda m, x: x if int(x.size(0)) > 4 else 2 * x, ["size of the batch"]),
    "a batch as NumPy's number": (
        lambda m, x: x if np.int64(x.size(0)) > 4 else 2 * x,
        ["size of the batch"],
    ),
    "a batch that is counted": (
        lambda m, x: x if len([*zip(range(5), range(x.size(0)), strict=False)]) > 4 else 2 * x,
        ["for an input depends on the batch", "by "],
    ),
    "a constant changed by the input": (
        change_a_constant,
        ["layer 'add_'", "depends on the input into a constant", "not in place"],
    ),
    "other dtypes": (
        lambda m, x: m.linear.double()(x),
        ["cannot call Net with inputs of torch.float32", "one dtype"],
    ),
    "an error that the inputs make": (unlike_the_stand_in, ["cannot call Net", "(no)"]),
    "a constant of the batch's size": (
        lambda m, x: torch.cat((x, torch.zeros(x.shape[0], 2)), 1),
        ["size of the batch", "treat all samples alike"],
    ),
    "product": (lambda m, x: x * m.linear(x), ["second factor depends on the input", "constant"]),
    "square": (lambda m, x: x.mul(x), ["second factor depends on the input", "constant"]),
    "quotient": (lambda m, x: x / x, ["divisor depends on the input", "constant"]),
    "reciprocal": (lambda m, x: 1 / x, ["divisor depends on the input", "constant"]),
    "weight from the input": (
        lambda m, x: F.linear(m.buffer, x),
        ["weight depends on the input", "constant"],
    ),
    "max of the batch": (lambda m, x: x.max(0).values, ["along the batch axis"]),
    "max of everything": (lambda m, x: x - x.max(), ["reduces over the batch too", "name"]),
    "where the maximum is": (lambda m, x: x + x.max(1, True)[1], ["unsupported operand"]),
    "hardshrink": (lambda m, x: F.hardshrink(x), ["jumps", "use nn.Softshrink"]),
    "threshold": (lambda m, x: F.threshold(x, 0.1, 20), ["jumps from 20 to 0.1", "one number"]),
    "half": (lambda m, x: x.half(), ["less precision than float32", "keep the model in float32"]),
    "to(float16)": (lambda m, x: x.to(torch.float16), ["torch.float16", "keep the model"]),
    "sigmoid": (lambda m, x: m.linear(x).sigmoid(), ["sigmoid is not modelled", "rewrite"]),
    "softmax inside": (lambda m, x: m.linear(x.softmax(1)), ["return the logits"]),
    "F.gelu": (lambda m, x: F.gelu(x), ["gelu is not modelled", "rewrite"]),
    "F.elu": (lambda m, x: F.elu(x), ["elu is not modelled", "rewrite"]),
    "attention": (lambda m, x: x @ m.linear(x), ["second factor depends on the input"]),
    "stacked weights": (
        lambda m, x: x[:, None] @ m.linear.weight[None],
        ["constant of other than two axes", "use a matrix"],
    ),
    "one sample": (lambda m, x: x[0], ["index does not keep one row a sample", "x[:, …]"]),
    "some samples": (lambda m, x: x[:2], ["index does not keep one row a sample"]),
    "every other sample": (lambda m, x: x[::2], ["index does not keep one row a sample"]),
    "samples by a mask": (lambda m, x: x[x > 0], ["gt is not modelled"]),
    "an axis before the batch": (lambda m, x: x[None], ["index does not keep one row a sample"]),
    "the batch behind tensors": (
        lambda m, x: x.view(-1, 3, 1, 1)[:, [0, 1], :, [0, 0]],
        ["index does not keep one row a sample"],
    ),
    "more indices than axes": (lambda m, x: x[..., 0, 0], ["getitem__ as called here"]),
    "a place that is not there": (lambda m, x: x[:, 3], ["getitem__ as called here"]),
    "mean over the batch": (lambda m, x: x - x.mean(0), ["along the batch axis", "one row a"]),
    "mean over everything": (lambda m, x: x - x.mean(), ["reduces over the batch too", "name"]),
    "mean in another dtype": (
        lambda m, x: x.mean(1, True, dtype=torch.float64),
        ["turns its numbers into torch.float64"],
    ),
    "mean of a vector": (
        lambda m, x: x.mean(1),
        ["the shape ()", "keep at least one axis (keepdim=True)"],
    ),
    "sum of rows": (lambda m, x: x.sum((0, 1), keepdim=True), ["along the batch axis"]),
    "x.T": (lambda m, x: x.T, ["moves the batch axis", "use x.mT"]),
    "x.transpose(0, 1)": (lambda m, x: x.transpose(0, 1), ["along the batch axis"]),
    "x.permute(1, 0)": (lambda m, x: x.permute(1, 0), ["(1, 0) moves the batch axis", "first"]),
    "x.flip(0)": (lambda m, x: x.flip(0), ["along the batch axis"]),
    "x.flip(-2)": (lambda m, x: x.flip(-2), ["along the batch axis"]),
    "cat of the batch": (lambda m, x: torch.cat((x, x)), ["along the batch axis"]),
    "cat with a constant": (
        lambda m, x: torch.cat((x, m.buffer[None]), 1),
        ["part is a constant", "compute constants"],
    ),
    "stack before the batch": (lambda m, x: torch.stack((x, x)), ["along the batch axis"]),
    "chunks of the batch": (lambda m, x: x.chunk(2)[0], ["along the batch axis"]),
    "x.squeeze()": (lambda m, x: x.squeeze(), ["drops a batch of one sample", "name the axes"]),
    "x.squeeze(0)": (lambda m, x: x.squeeze(0), ["along the batch axis"]),
    "x.unsqueeze(0)": (lambda m, x: x.unsqueeze(0), ["along the batch axis"]),
    "x.repeat of the batch": (lambda m, x: x.repeat(2, 1), ["(2, 1) does not keep one row"]),
    "x.repeat before the batch": (lambda m, x: x.repeat(1, 1, 1), ["(1, 1, 1) does not keep one"]),
    "x.expand(4, 3)": (lambda m, x: x.expand(4, 3), ["(4, 3) does not keep one row a sample"]),
    "x.index_select(0)": (
        lambda m, x: x.index_select(0, m.buffer.long()),
        ["along the batch axis"],
    ),
    "an index from the input": (
        lambda m, x: m.linear(m.buffer).index_select(0, x),
        ["index depends on the input", "constant parameters"],
    ),
    "padding of the batch": (lambda m, x: F.pad(x, (0, 0, 1, 0)), ["pads the batch axis"]),
    "a bound by the batch": (
        lambda m, x: x.clamp(max=x.size(0)),
        ["computes with the size of the batch"],
    ),
    "out=": (lambda m, x: torch.add(x, 1, out=m.buffer), ["add as called here", "'out'"]),
    "rounding": (
        lambda m, x: torch.div(x, 2, rounding_mode="floor"),
        ["div as called here", "rounding_mode"],
    ),
    "floor division": (lambda m, x: x // 2, ["__floordiv__ is not modelled", "rewrite"]),
    "power": (lambda m, x: x**2, ["pow is not modelled", "rewrite"]),
    "batch size as a number": (
        lambda m, x: x * x.shape[0],
        ["computes with the size of the batch"],
    ),
    "random dropout": (lambda m, x: F.dropout(x), ["Dropout in training mode", "model.eval()"]),
    "x.view(-1)": (lambda m, x: x.view(-1), ["(-1,) does not keep one row a sample", "flatten(1)"]),
    "x.view(1, -1)": (lambda m, x: x.view(1, -1), ["(1, -1) does not keep one row a sample"]),
    "x.view(-1, 6)": (lambda m, x: x.view(-1, 6), ["(-1, 6) does not keep one row a sample"]),
    "x.reshape(3, -1)": (lambda m, x: x.reshape(3, -1), ["(3, -1) does not keep one row a sample"]),
    "batch inside": (
        lambda m, x: x.view(x.size(0), x.size(0), -1),
        ["reshape to (batch size, batch size, -1) does not keep one row a sample"],
    ),
    "torch.flatten(x)": (lambda m, x: torch.flatten(x), ["along the batch axis", "keep one row"]),
    "several outputs": (lambda m, x: (x, m.linear(x)), ["returns tuple", "one tensor", "wrap"]),
    "dictionary": (lambda m, x: {"logits": m.linear(x)}, ["dict", "one tensor", "wrap the model"]),
    "constant": (lambda m, x: m.buffer, ["returns Tensor", "depends on its input", "wrap"]),
    "complex constant": (
        lambda m, x: x * torch.tensor(1j),
        ["numbers are torch.complex64", "use real"],
    ),
    "sizes that do not exist": (
        lambda m, x: x.view(x.shape.numel()),
        ["computes with the size of the batch"],
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward(name: str) -> None:
    compute, fragments = FORWARD[name]
    refused(read(Net(compute)), UnsupportedLayerError, *fragments)


def test_several_inputs() -> None:
    fragments = "cannot call TwoInputs with one tensor", "missing 1 required", "'y'"
    refused(read(TwoInputs()), UnsupportedLayerError, *fragments)


def test_not_a_module() -> None:
    function: Any = torch.relu
    refused(
        lambda: from_torch(function, (3,)),
        InvalidInputError,
        "got a builtin_function_or_method",
        "expected a torch.nn.Module",
    )
