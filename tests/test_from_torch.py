"""Reading torch modules: the network computes what the module computes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

from benchmarks.instances import FOLDER, load_model, ten_images
from bounds import Network
from bounds.network import ReluNode
from tests.networks import Architecture, Dice, architectures, seeds


def agree(module: nn.Module, network: Network, x: Tensor) -> None:
    """Equal to 1e-12 of the sum of the magnitudes that an output is made of."""
    with torch.no_grad():
        expected = module(x.clone())
        magnitude = network.detach().convert(torch.abs)(x.abs())
    actual = network(x).detach()
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == torch.float64
    assert ((actual - expected).abs() <= 1e-12 * magnitude.amax()).all()


@given(architectures(), seeds)
def test_drawn_modules(architecture: Architecture, seed: int) -> None:
    module, network = architecture.build(), architecture.network()
    agree(module, network, Dice(seed).normal(3, *architecture.input_shape))
    assert len(network.relus) == sum(isinstance(m, nn.ReLU) for m in module.modules())


class Net(nn.Module):
    """Two layers around a `forward` that each case writes for itself."""

    constant: Tensor

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


SIX, IMAGE, SIGNAL = (6,), (2, 1, 3), (2, 3)
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
    "loop, shared layers": (SIX, loop),
    "residual": (SIX, shared),
    "identity": (SIX, lambda m, x: x),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str) -> None:
    shape, compute = FORMS[form]
    module = Net(compute)
    x = Dice(1).normal(4, *shape)
    network = Network.from_torch(module, shape)
    agree(module, network, x)
    assert network.output_shape == module(x.clone()).shape[1:]


SEQUENTIALS = {
    "Linear alone": ((3,), nn.Linear(3, 2)),
    "inplace ReLU": ((3,), nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))),
    "inplace ReLU after Flatten": (
        (2, 3),
        nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(6, 2)),
    ),
    "nested": (
        (3,),
        nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU())), nn.Linear(3, 1)),
    ),
    "the same layer twice": ((3,), nn.Sequential(*[nn.Linear(3, 3)] * 2)),
    "Dropout in eval mode": ((3,), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Identity())),
    "Dropout2d": ((2, 3, 3), nn.Sequential(nn.Conv2d(2, 2, 2), nn.Dropout2d())),
    "Conv2d same": ((2, 4, 4), nn.Conv2d(2, 2, 3, padding="same", dilation=2)),
    "Conv1d valid": ((2, 4), nn.Conv1d(2, 2, 3, padding="valid")),
    "AvgPool2d": ((2, 5, 4), nn.AvgPool2d((2, 3), stride=(2, 1), padding=(1, 0))),
    "AvgPool2d divisor": ((2, 4, 4), nn.AvgPool2d(3, 1, 1, False, False, divisor_override=5)),
    "AvgPool2d unpadded": ((2, 5, 5), nn.AvgPool2d(2, count_include_pad=False)),
    "BatchNorm1d of signals": ((3, 4), nn.BatchNorm1d(3, affine=False)),
    "Flatten of some axes": ((2, 3, 4), nn.Flatten(2)),
}


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_layers(name: str) -> None:
    shape, module = SEQUENTIALS[name]
    module = module.double().eval()
    network = Network.from_torch(module, shape, dtype=torch.float64)
    agree(module, network, Dice(0).normal(2, *shape))


def test_subclasses_are_traced_through() -> None:
    """A user's subclass may compute something else than its name says."""

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Shifted(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - 1)

    module = nn.Sequential(Doubled(3, 3), Shifted(), Doubled(3, 2)).double()
    agree(module, Network.from_torch(module, (3,)), 3 * Dice(0).normal(20, 3))


def test_hooks_of_a_container_are_traced() -> None:
    module = nn.Sequential(nn.Linear(3, 3)).double()
    module.register_forward_hook(lambda module, args, output: 2 * output)
    agree(module, Network.from_torch(module, (3,)), Dice(0).normal(2, 3))


def test_names_are_the_models() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    network = Network.from_torch(model, (3,))
    assert [node.name for node in network.nodes] == ["input", "0", "1.0", "1.1"]


def test_nodes_that_the_output_does_not_need_are_left_out() -> None:
    def unused(m: Net, x: Tensor) -> Tensor:
        F.relu(m.second(x))
        return m.first(x)

    network = Network.from_torch(Net(unused), (6,))
    assert len(network.nodes) == 2
    assert not any(isinstance(node, ReluNode) for node in network.nodes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_option(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3)).eval()
    assert Network.from_torch(model, (3,))(torch.ones(1, 3)).dtype == torch.float32
    network = Network.from_torch(model, (3,), dtype=dtype)
    assert {parameter.dtype for parameter in network.parameters} == {dtype}
    x = Dice(0).normal(2, 3).to(dtype)
    torch.testing.assert_close(network(x), model.to(dtype)(x), rtol=1e-6, atol=1e-6)


def test_parameters_are_a_snapshot() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    network = Network.from_torch(model, (3,))
    x = torch.ones(2, 3)
    before = network(x).detach().clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()(x).sum().backward()
    optimiser.step()
    assert not torch.allclose(model.eval()(x), before)
    assert torch.equal(network(x), before)


def test_gradients_reach_the_models_parameters() -> None:
    """Those of the network are those of the module itself."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    model.eval()
    x = Dice(0).normal(5, 3)
    parameters = list(model.parameters())
    actual = torch.autograd.grad(Network.from_torch(model, (3,))(x).square().sum(), parameters)
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    for a, e in zip(actual, expected, strict=True):
        assert e.abs().max() > 0
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True)).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    versions = [t._version for t in (*model.parameters(), *model.buffers())]
    Network.from_torch(model, (3,), dtype=torch.float64)(torch.ones(1, 3, dtype=torch.float64))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert versions == [t._version for t in (*model.parameters(), *model.buffers())]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_real_convolutional_network(shared_data: Path) -> None:
    model = load_model(shared_data / FOLDER / "experiment_2" / "mnist_cnn_small_NOR.pth")
    x = ten_images(shared_data)
    assert x.shape == (10, 1, 28, 28)
    agree(model, Network.from_torch(model, (1, 28, 28)), x)
