"""Every form in which a torch module may write a layer: the network computes what it computes."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds import from_torch
from tests.support.building import agree
from tests.support.networks import Dice


class Net(nn.Module):
    """Two layers around a `forward` that each case writes for itself."""

    constant: Tensor
    index: Tensor
    mask: Tensor
    bytes: Tensor

    def __init__(self, compute: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.conv = nn.Conv2d(2, 3, 2, padding=1, bias=False)
        self.signal = nn.Conv1d(2, 2, 2)
        self.norm = nn.BatchNorm1d(6)
        self.norm.running_mean = torch.randn(6)
        self.norm.running_var = torch.rand(6) + 0.1
        self.weight = nn.Parameter(torch.randn(6))
        self.register_buffer("constant", torch.randn(6))
        self.vector = nn.Parameter(torch.randn(2))
        self.register_buffer("index", torch.tensor([1, 0, 1]))
        self.register_buffer("mask", torch.arange(6) % 3 > 0)
        self.register_buffer("bytes", torch.arange(6, dtype=torch.uint8))
        self.compute = compute
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def batch_norm(m: Net, x: Tensor) -> Tensor:
    n = m.norm
    return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, m.training, 0.1, n.eps)


def in_place_sum(m: Net, x: Tensor) -> Tensor:
    y = m.first(x)
    y += x
    y *= 2
    y -= 0.1
    y /= 3
    return F.relu(y)


def loop(m: Net, x: Tensor) -> Tensor:
    for layer in (m.first, m.second, m.first):
        x = layer(x).relu()
    return x


def shared(m: Net, x: Tensor) -> Tensor:
    z = F.relu(m.first(x))
    return m.second(z) + z + (z - x)


def unpacked(parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    first, second = parts
    return first, second


def relu_in_place_used_again(m: Net, x: Tensor) -> Tensor:
    y = m.first(x)
    return y.relu_() + F.relu(y - 1, True) + y


def input_in_place(m: Net, x: Tensor) -> Tensor:
    y = x
    y += 1
    return m.first(x) + y


def constants_made_in_forward(m: Net, x: Tensor) -> Tensor:
    scale = torch.zeros(6, dtype=x.dtype, device=x.device)
    scale[2:] = 3
    scale += torch.tensor([1.0, 2, 3, 4, 5, 6])
    return x * scale + scale.numel()


def branches_on_shapes(m: Net, x: Tensor) -> Tensor:
    batch, features = x.shape
    assert features == 6
    assert x.shape[1:] == (6,)
    assert x.shape[1:].numel() == len(m.weight)
    return m.first(x).view(batch, features) if x.ndim == 2 and x.dim() == 2 else x


SIX, IMAGE, SIGNAL, GRID, LARGE = (6,), (2, 1, 3), (2, 3), (3, 2), (2, 4, 5)
FORMS: dict[str, tuple[tuple[int, ...], Callable[[Net, Tensor], Tensor]]] = {
    "F.relu": (SIX, lambda m, x: F.relu(m.first(x))),
    "F.relu inplace": (SIX, lambda m, x: F.relu(m.first(x), inplace=True)),
    "torch.relu": (SIX, lambda m, x: torch.relu(m.first(x))),
    "torch.relu_": (SIX, lambda m, x: torch.relu_(m.first(x))),
    "x.relu()": (SIX, lambda m, x: m.first(x).relu()),
    "x.relu_()": (SIX, lambda m, x: m.first(x).relu_()),
    "x + x": (SIX, lambda m, x: x + x),
    "symbols +": (SIX, lambda m, x: m.first(x) + x),
    "symbols -": (SIX, lambda m, x: m.first(x) - x),
    "torch.add alpha": (SIX, lambda m, x: torch.add(m.first(x), x, alpha=3)),
    "torch.sub alpha": (SIX, lambda m, x: torch.sub(m.first(x), x, alpha=3)),
    "x.add(y)": (SIX, lambda m, x: m.first(x).add(x)),
    "x.add_(y)": (SIX, lambda m, x: m.first(x).add_(x)),
    "x.sub(y)": (SIX, lambda m, x: m.first(x).sub(x)),
    "in place sums": (SIX, in_place_sum),
    "constant +": (SIX, lambda m, x: x + m.constant),
    "constant + x": (SIX, lambda m, x: m.constant + x),
    "number + x": (SIX, lambda m, x: 2 + x),
    "constant -": (SIX, lambda m, x: x - m.constant),
    "constant - x": (SIX, lambda m, x: m.constant - x),
    "number - x": (SIX, lambda m, x: 0.3 - x),
    "alpha constant": (SIX, lambda m, x: torch.add(x, m.constant, alpha=-2)),
    "constant *": (SIX, lambda m, x: x * m.weight),
    "number * x": (SIX, lambda m, x: 0.1 * x),
    "x.mul": (SIX, lambda m, x: x.mul(m.constant)),
    "constant /": (SIX, lambda m, x: x / m.constant),
    "number /": (SIX, lambda m, x: x / 3),
    "torch.div": (SIX, lambda m, x: torch.div(x, 0.7)),
    "-x": (SIX, lambda m, x: -m.first(x)),
    "torch.neg": (SIX, lambda m, x: torch.neg(x)),
    "operator.sub": (SIX, lambda m, x: operator.sub(x, 1)),
    "F.linear": (SIX, lambda m, x: F.linear(x, m.first.weight, m.constant)),
    "F.linear no bias": (SIX, lambda m, x: F.linear(x, m.first.weight)),
    "linear by keyword": (SIX, lambda m, x: m.first(input=x)),
    "last axis": ((2, 6), lambda m, x: m.first(x).flatten(1)),
    "norm": (SIX, lambda m, x: m.norm(m.first(x))),
    "F.batch_norm": (SIX, batch_norm),
    "constant through a layer": (SIX, lambda m, x: x + m.first(m.constant)),
    "computed constant": (SIX, lambda m, x: x * (m.weight.abs() + 1)),
    "F.dropout": (SIX, lambda m, x: F.dropout(x, 0.5, m.training) + 1),
    "conv": (IMAGE, lambda m, x: m.conv(x)),
    "F.conv2d": (IMAGE, lambda m, x: F.conv2d(x, m.conv.weight, None, (1, 2), 1)),
    "F.conv2d same": (IMAGE, lambda m, x: F.conv2d(x, m.conv.weight[:, :, :1, :1], padding="same")),
    "conv1d": (SIGNAL, lambda m, x: m.signal(x)),
    "F.conv1d": (SIGNAL, lambda m, x: F.conv1d(x, m.signal.weight, m.signal.bias, dilation=2)),
    "F.avg_pool2d": (IMAGE, lambda m, x: F.avg_pool2d(x, (1, 2), stride=1)),
    "x.view(x.size(0), -1)": (IMAGE, lambda m, x: m.first(x.view(x.size(0), -1))),
    "x.view(x.shape[0], -1)": (IMAGE, lambda m, x: m.first(x.view(x.shape[0], -1))),
    "x.view(-1, 6)": (IMAGE, lambda m, x: m.first(x.view(-1, 6))),
    "x.reshape": (IMAGE, lambda m, x: m.first(x.reshape(x.size(0), 6))),
    "x.reshape tuple": (IMAGE, lambda m, x: m.first(x.reshape((x.size(0), 6)))),
    "torch.reshape": (IMAGE, lambda m, x: m.first(torch.reshape(x, (x.shape[0], -1)))),
    "sizes of axes": (IMAGE, lambda m, x: x.view(x.size(0), x.size(1) * x.size(2), x.shape[3])),
    "to an image": (SIX, lambda m, x: m.conv(x.view(-1, 2, 1, 3))),
    "x.flatten(1)": (IMAGE, lambda m, x: m.first(x.flatten(1))),
    "x.flatten(start_dim=1)": (IMAGE, lambda m, x: m.first(x.flatten(start_dim=1))),
    "x.flatten(1, 2)": (IMAGE, lambda m, x: x.flatten(1, 2)),
    "torch.flatten": (IMAGE, lambda m, x: m.first(torch.flatten(x, 1))),
    "x.contiguous()": (SIX, lambda m, x: m.first(x.contiguous())),
    "x @ constant": (SIX, lambda m, x: x @ m.first.weight),
    "x @ vector": (GRID, lambda m, x: x @ m.vector),
    "constant @ x": (GRID, lambda m, x: m.first.weight[:4, :3] @ x),
    "torch.matmul": (SIX, lambda m, x: torch.matmul(x, m.first.weight.T)),
    "x.mm": (SIX, lambda m, x: x.mm(m.first.weight)),
    "a smaller sample + constant": (SIX, lambda m, x: x.unsqueeze(1) + m.constant[:2, None]),
    "symbols + of axes of 1": (GRID, lambda m, x: x + x[:, :1]),
    "minus unsigned integers": (SIX, lambda m, x: x - m.bytes),
    "F.leaky_relu": (SIX, lambda m, x: F.leaky_relu(x)),
    "F.leaky_relu slope": (SIX, lambda m, x: F.leaky_relu(m.first(x), -0.3, True)),
    "F.prelu": (SIX, lambda m, x: F.prelu(x, m.weight)),
    "torch.prelu of one slope": (IMAGE, lambda m, x: torch.prelu(x, m.weight[:1])),
    "F.relu6": (SIX, lambda m, x: F.relu6(5 * x)),
    "F.hardtanh": (SIX, lambda m, x: F.hardtanh(x)),
    "F.hardtanh bounds": (SIX, lambda m, x: F.hardtanh(x, min_val=-0.5, max_val=0.1)),
    "x.clamp(min)": (SIX, lambda m, x: x.clamp(min=0.1)),
    "x.clamp(0, 1)": (SIX, lambda m, x: x.clamp(0, 1)),
    "x.clamp_": (SIX, lambda m, x: m.first(x).clamp_(max=0.2)),
    "torch.clip": (SIX, lambda m, x: torch.clip(x, -0.1, 0.2)),
    "clamp by tensors": (SIX, lambda m, x: torch.clamp(x, m.weight - 1, m.weight)),
    "clamp by a symbol": (SIX, lambda m, x: x.clamp(max=m.first(x))),
    "torch.clamp_min": (SIX, lambda m, x: torch.clamp_min(x, 0.3)),
    "x.clamp_max": (SIX, lambda m, x: x.clamp_max(0.3)),
    "abs(x)": (SIX, lambda m, x: abs(x)),
    "torch.abs": (SIX, lambda m, x: torch.abs(x)),
    "x.abs_()": (SIX, lambda m, x: m.first(x).abs_()),
    "torch.maximum": (SIX, lambda m, x: torch.maximum(x, m.first(x))),
    "torch.minimum": (SIX, lambda m, x: torch.minimum(m.constant, x)),
    "x.maximum": (SIX, lambda m, x: x.maximum(m.constant)),
    "x.minimum": (GRID, lambda m, x: x.minimum(x[:, :, :1])),
    "F.conv_transpose2d": (IMAGE, lambda m, x: F.conv_transpose2d(x, m.conv.weight[:2], None, 2)),
    "F.conv_transpose1d": (
        SIGNAL,
        lambda m, x: F.conv_transpose1d(x, m.signal.weight, m.signal.bias, 3, 1, 2, dilation=2),
    ),
    "F.conv2d same, even": (IMAGE, lambda m, x: F.conv2d(x, m.conv.weight, padding="same")),
    "F.max_pool2d": (LARGE, lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "F.max_pool1d": (SIGNAL, lambda m, x: F.max_pool1d(x, 2, stride=1)),
    "torch.max_pool2d": (LARGE, lambda m, x: torch.max_pool2d(x, (2, 1), dilation=2)),
    "F.avg_pool1d": (SIGNAL, lambda m, x: F.avg_pool1d(x, 2, 1, 1, True, False)),
    "F.adaptive_avg_pool1d": (SIGNAL, lambda m, x: F.adaptive_avg_pool1d(x, 2)),
    "F.adaptive_avg_pool2d": (LARGE, lambda m, x: F.adaptive_avg_pool2d(x, (None, 2))),
    "F.pad": (LARGE, lambda m, x: F.pad(x, (1, 0, 2, -1), value=0.5)),
    "F.pad reflect": (LARGE, lambda m, x: F.pad(x, (1, 0, 2, 1), "reflect")),
    "F.interpolate": (LARGE, lambda m, x: F.interpolate(x, scale_factor=(2, 1.5))),
    "F.interpolate size": (LARGE, lambda m, x: F.interpolate(x, size=(3, 7))),
    "F.interpolate exact": (SIGNAL, lambda m, x: F.interpolate(x, 7, mode="nearest-exact")),
    "torch.cat": (SIX, lambda m, x: torch.cat([x, m.first(x), x], 1)),
    "torch.cat of channels": (IMAGE, lambda m, x: torch.cat((x, m.conv(x)[:, :, :1, :3]), dim=-3)),
    "torch.stack": (SIX, lambda m, x: torch.stack((x, m.first(x)), -1)),
    "x.chunk": (SIX, lambda m, x: operator.sub(*unpacked(x.chunk(2, 1)))),
    "torch.chunk that leaves less": (SIX, lambda m, x: torch.chunk(x, 4, dim=1)[2]),
    "x.split": (SIX, lambda m, x: x.split(4, -1)[1]),
    "torch.split of sizes": (SIX, lambda m, x: torch.split(x, [1, 2, 3], 1)[2]),
    "x.unbind": (GRID, lambda m, x: x.unbind(1)[2] - x.unbind(2)[0].narrow(1, 0, 2)),
    "x[:, 1:]": (SIX, lambda m, x: x[:, 1:-1]),
    "x[:, ::2, 0]": (GRID, lambda m, x: x[:, ::2, 0]),
    "x[..., 0]": (GRID, lambda m, x: x[..., 0]),
    "x[:, None]": (SIX, lambda m, x: x[:, None, :, None]),
    "x[:]": (SIX, lambda m, x: x[:]),
    "x[:, [2, 0, 2]]": (SIX, lambda m, x: x[:, [2, 0, 2]]),
    "x[:, tensor]": (GRID, lambda m, x: x[:, m.index]),
    "x[:, tensor, tensor]": (GRID, lambda m, x: x[:, m.index, m.index - 1]),
    "x[:, mask]": (SIX, lambda m, x: x[:, m.mask]),
    "x.index_select": (GRID, lambda m, x: x.index_select(-1, m.index)),
    "x.narrow": (SIX, lambda m, x: x.narrow(1, -3, 2)),
    "x.select": (GRID, lambda m, x: x.select(1, -1)),
    "x.permute": (IMAGE, lambda m, x: x.permute(0, 3, 1, 2)),
    "torch.permute": (IMAGE, lambda m, x: torch.permute(x, (0, -1, 2, 1))),
    "x.transpose": (GRID, lambda m, x: x.transpose(1, 2)),
    "torch.swapaxes": (IMAGE, lambda m, x: torch.swapaxes(x, -3, 3)),
    "x.mT": (GRID, lambda m, x: x.mT),
    "x.flip": (GRID, lambda m, x: x.flip(1, -1)),
    "torch.flip": (GRID, lambda m, x: torch.flip(x, [2])),
    "x.squeeze": (IMAGE, lambda m, x: x.squeeze(2)),
    "torch.squeeze of two": (IMAGE, lambda m, x: torch.squeeze(x.unsqueeze(1), (1, 3))),
    "x.squeeze of nothing": (IMAGE, lambda m, x: x.squeeze(1)),
    "x.unsqueeze": (SIX, lambda m, x: x.unsqueeze(-1).unsqueeze(1)),
    "x.expand": (IMAGE, lambda m, x: x.expand(-1, 2, 3, -1)),
    "x.expand of the batch": (IMAGE, lambda m, x: x.expand(x.size(0), 2, 3, 3)),
    "x.repeat": (IMAGE, lambda m, x: x.repeat(1, 2, 1, 3)),
    "x.unflatten": (SIX, lambda m, x: x.unflatten(1, (2, -1))),
    "x.mean": (LARGE, lambda m, x: x.mean((2, 3))),
    "torch.mean": (LARGE, lambda m, x: torch.mean(x, dim=-1, keepdim=True)),
    "x.sum": (LARGE, lambda m, x: x.sum(1)),
    "loop, shared layers": (SIX, loop),
    "residual": (SIX, shared),
    "identity": (SIX, lambda m, x: x),
    "in place, used again": (SIX, relu_in_place_used_again),
    "a copy in place": (SIX, lambda m, x: x.clone().relu_() - x),
    "the input in place": (SIX, input_in_place),
    "constants made in forward": (SIX, constants_made_in_forward),
    "branches on shapes": (SIX, branches_on_shapes),
    "conversions": (
        SIX,
        lambda m, x: m.first(x.double().to(m.weight.dtype).type_as(m.weight).to(x)),
    ),
    "copies": (SIX, lambda m, x: x.clone() + x.detach() - 2 * x.cpu().to("cpu").data),
    "torch.subtract": (SIX, lambda m, x: torch.subtract(x, 1) + x.subtract(m.weight)),
    "torch.rsub": (SIX, lambda m, x: torch.rsub(x, 1, alpha=0.3)),
    "torch.multiply": (SIX, lambda m, x: torch.multiply(x, m.weight).divide(3).true_divide(7)),
    "torch.negative": (SIX, lambda m, x: torch.negative(+x).negative_()),
    "torch.addmm": (
        SIX,
        lambda m, x: torch.addmm(m.first.bias, x, m.first.weight.t(), beta=0.3, alpha=0.7),
    ),
    "torch.max of two": (SIX, lambda m, x: torch.max(x, m.first(x)) - torch.min(x, m.weight)),
    "x.max(dim)": (LARGE, lambda m, x: x.max(2).values + x.min(dim=2)[0]),
    "x.amax": (LARGE, lambda m, x: x.amax((1, -1)) - torch.amin(x, (1, 3), True).flatten(1)),
    "hardsigmoid": (SIX, lambda m, x: F.hardsigmoid(5 * x)),
    "softshrink": (SIX, lambda m, x: F.softshrink(x, 0.3)),
    "threshold": (SIX, lambda m, x: F.threshold(x, 0.1, 0.1)),
    "rrelu": (SIX, lambda m, x: F.rrelu(x, 0.1, 0.4)),
    "concatenate": (SIX, lambda m, x: torch.concatenate((x, -x), dim=1)),
    "x.movedim": (LARGE, lambda m, x: x.movedim((1, 2), (3, 1))),
    "x.reshape_as": (SIX, lambda m, x: x.unflatten(1, (2, 3)).reshape_as(x)),
    "pixel_shuffle": ((4, 2, 3), lambda m, x: F.pixel_shuffle(x, 2)[:, :, 1:]),
    "pixel_unshuffle": (LARGE, lambda m, x: F.pixel_unshuffle(x[..., :4], 2)),
    "padding without channels": (GRID, lambda m, x: F.pad(x, (1, 0, 2, 1), value=0.5)),
    "aten": (SIX, lambda m, x: torch.ops.aten.relu.default(torch.ops.aten.neg.default(x))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str) -> None:
    shape, compute = FORMS[form]
    module = Net(compute)
    x = Dice(1).normal(4, *shape)
    network = from_torch(module, shape)
    agree(module, network, x)
    assert network.output_shape == module(x.clone()).shape[1:]
