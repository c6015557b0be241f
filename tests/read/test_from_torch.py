"""Reading torch modules: the network computes what the module computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

from benchmarks.published.instances import FOLDER, load_model, ten_images
from bounds import from_torch
from bounds.network.graph import ReluNode
from tests.support.building import agree
from tests.support.networks import Architecture, Dice, architectures, seeds


@given(architectures(), seeds)
def test_drawn_modules(architecture: Architecture, seed: int) -> None:
    module, network = architecture.build(), architecture.network()
    agree(module, network, Dice(seed).normal(3, *architecture.input_shape))


@given(architectures(plain=True))
def test_every_relu_is_a_node(architecture: Architecture) -> None:
    relus = sum(isinstance(module, nn.ReLU) for module in architecture.build().modules())
    assert len(architecture.network().relus) == relus


def test_subclasses_are_traced_through() -> None:
    """A user's subclass may compute something else than its name says."""

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Shifted(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - 1)

    module = nn.Sequential(Doubled(3, 3), Shifted(), Doubled(3, 2)).double()
    agree(module, from_torch(module, (3,)), 3 * Dice(0).normal(20, 3))


def test_hooks_of_a_container_are_traced() -> None:
    module = nn.Sequential(nn.Linear(3, 3)).double()
    module.register_forward_hook(lambda module, args, output: 2 * output)
    agree(module, from_torch(module, (3,)), Dice(0).normal(2, 3))


def test_names_are_the_models() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    network = from_torch(model, (3,))
    assert [node.name for node in network.nodes] == ["input", "0", "1.0", "1.1"]


def test_nodes_that_the_output_does_not_need_are_left_out() -> None:
    class Unused(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            F.relu(x)
            return super().forward(x)

    network = from_torch(Unused(6, 6), (6,))
    assert len(network.nodes) == 2
    assert not any(isinstance(node, ReluNode) for node in network.nodes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_option(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3)).eval()
    assert from_torch(model, (3,))(torch.ones(1, 3)).dtype == torch.float32
    network = from_torch(model, (3,), dtype=dtype)
    assert {parameter.dtype for parameter in network.parameters} == {dtype}
    x = Dice(0).normal(2, 3).to(dtype)
    torch.testing.assert_close(network(x), model.to(dtype)(x), rtol=1e-6, atol=1e-6)


def test_parameters_are_a_snapshot() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    network = from_torch(model, (3,))
    x = torch.ones(2, 3)
    before = network(x).detach().clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()(x).sum().backward()
    optimiser.step()
    assert not torch.allclose(model.eval()(x), before)
    assert torch.equal(network(x), before)


def test_gradients_reach_the_models_parameters() -> None:
    """Those of the network are those of the module itself."""
    torch.manual_seed(0)
    # No layer sees the zeros of a ReLU before it, where its gradient would be a matter of choice.
    signal = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.ConvTranspose1d(2, 2, 2), nn.MaxPool1d(2, 1))
    model = nn.Sequential(
        *(nn.Linear(3, 4), signal, nn.PReLU(2), nn.Flatten(), nn.BatchNorm1d(4)),
        *(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
    )
    model.double().eval()
    x = Dice(0).normal(5, 3)
    parameters = list(model.parameters())
    actual = torch.autograd.grad(from_torch(model, (3,))(x).square().sum(), parameters)
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    for a, e in zip(actual, expected, strict=True):
        assert e.abs().max() > 0
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True)).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    versions = [t._version for t in (*model.parameters(), *model.buffers())]
    from_torch(model, (3,), dtype=torch.float64)(torch.ones(1, 3, dtype=torch.float64))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert versions == [t._version for t in (*model.parameters(), *model.buffers())]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_real_convolutional_network(shared_data: Path) -> None:
    model = load_model(shared_data / FOLDER / "experiment_2" / "mnist_cnn_small_NOR.pth")
    x = ten_images(shared_data)
    assert x.shape == (10, 1, 28, 28)
    agree(model, from_torch(model, (1, 28, 28)), x)
