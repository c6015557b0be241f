"""Layers of few weights are the dense layers that they stand for, in every use of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bounds
import lp_reference
from bounds.intermediate.first_layer import within_ball
from bounds.network.affine import Affine, Linear
from bounds.network.graph import AffineNode, Network
from bounds.network.merge import with_biases
from bounds.network.sparse import SHARE, WEIGHTS, SparseLinear, linear
from bounds.solution.certificate_file import network_digest

OUT, IN = 100, 300
DTYPES = [torch.float32, torch.float64]


def weight(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A fiftieth is not 0; a row, a column and a whole block are empty."""
    torch.manual_seed(0)
    found = torch.randn(OUT, IN, dtype=dtype) * (torch.rand(OUT, IN) < 1 / 50)
    found[3], found[:, 7], found[-9:, -9:] = 0, 0, 0
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_those_of_the_dense_layer(dtype: torch.dtype) -> None:
    W, b = weight(dtype), torch.randn(OUT, dtype=dtype)
    sparse, dense = linear((IN,), (OUT,), W, b), Linear((IN,), (OUT,), W, b)
    assert isinstance(sparse, SparseLinear)
    assert sparse.fan_in == int((W != 0).sum(1).max())
    assert sparse.fan_out == int((W != 0).sum(0).max())
    assert torch.equal(sparse.rows.dense, W)
    assert torch.equal(sparse.columns.dense, W.T)
    x, y = torch.randn(5, 2, IN, dtype=dtype), torch.randn(5, 2, OUT, dtype=dtype)
    for name, given in [("linear", x), ("forward", x), ("adjoint", y), ("linear", x[:0])]:
        for one, other in [(sparse, dense), (sparse.absolute(), dense.absolute())]:
            torch.testing.assert_close(getattr(one, name)(given), getattr(other, name)(given))
    given = x.clone().requires_grad_(True)
    found, expected = (
        torch.autograd.grad(each.forward(given).square().sum(), given)[0]
        for each in (sparse, dense)
    )
    torch.testing.assert_close(found, expected)


def test_what_torch_follows_by_itself_it_still_follows() -> None:
    W = weight()
    sparse = linear((IN,), (OUT,), W, None)
    x = torch.randn(4, IN, dtype=torch.float64)
    torch.testing.assert_close(
        torch.func.vmap(sparse.linear)(x.unsqueeze(1)), (x @ W.T).unsqueeze(1)
    )
    assert sparse.convert(lambda t: t.to("meta")).linear(x.to("meta")).shape == (4, OUT)


def test_only_constants_of_few_weights_are_kept_so() -> None:
    W = weight()
    assert isinstance(linear((IN,), (OUT,), W.requires_grad_(True), None), Linear)
    W = W.detach()
    assert isinstance(linear((IN,), (10,), W[:10], None), Linear)  # a small one
    W.flatten()[: int(SHARE * W.numel()) + 1] = 1
    assert W.numel() >= WEIGHTS
    assert isinstance(linear((IN,), (OUT,), W, None), Linear)


def pruned() -> nn.Sequential:
    """Three inputs, wide layers, a handful of weights in a row."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(3, 150), nn.ReLU(), nn.Linear(150, 150), nn.ReLU(), nn.Linear(150, 2)
    )
    model[2].weight.data *= torch.rand(150, 150) < 1 / 40  # zeros of either sign
    return model.double().requires_grad_(False)


def dense(network: Network) -> Network:
    """The same network by whole matrices."""
    nodes = []
    for node in network.nodes:
        match node:
            case AffineNode(operation=SparseLinear() as each):
                nodes.append(replace(node, operation=each.dense))
            case _:
                nodes.append(node)
    return Network(tuple(nodes))


def scene() -> tuple[Network, bounds.Ball, bounds.Specification]:
    network = bounds.from_torch(pruned(), (3,))
    x = torch.tensor([[0.1, -0.2, 0.3], [0.5, 0.0, -0.4]], dtype=torch.float64)
    return network, bounds.Ball(x, radius=0.3), bounds.margins(torch.tensor([0, 1]), 2)


@pytest.mark.parametrize("intermediate", ["interval", "backward", "optimised", "lp"])
def test_l_and_u_are_those_of_the_dense_network(intermediate: bounds.Intermediate) -> None:
    network, ball, rows = scene()
    relaxations = [
        bounds.relax(each, ball, rows, intermediate=intermediate)
        for each in (network, dense(network))
    ]
    for one, other in zip(*(each.relu_bounds for each in relaxations), strict=True):
        torch.testing.assert_close(one.lower, other.lower, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(one.upper, other.upper, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["fixed_slope", "adaptive_slope", "simplex", "interior_point"])
def test_bounds_are_those_of_the_dense_network(method: bounds.Method) -> None:
    network, ball, rows = scene()
    found, expected = (
        bounds.solve(bounds.relax(each, ball, rows), method=method).lower
        for each in (network, dense(network))
    )
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("norm", [1, 2])
def test_a_first_layer_is_bounded_by_the_norm(norm: int) -> None:
    """As a dense one is, without a pass."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(IN, OUT), nn.ReLU(), nn.Linear(OUT, 2)).double()
    model[0].weight.data = weight()
    network = bounds.from_torch(model.requires_grad_(False), (IN,))
    assert any(isinstance(getattr(n, "operation", None), SparseLinear) for n in network.nodes)
    ball = bounds.Ball(torch.zeros(2, IN, dtype=torch.float64), radius=0.1, norm=norm)
    relaxation = bounds.relax(network, ball, bounds.margins(0, classes=2))
    [start] = network.nodes[network.relus[0]].parents
    nothing = torch.full((2, OUT), torch.inf, dtype=torch.float64)
    at = network, relaxation.input_set, relaxation.ranges(), start
    found = within_ball(*at, bounds.ReluBounds(-nothing, nothing))
    widths = 0.2 * torch.linalg.vector_norm(weight(), {1: torch.inf, 2: 2}[norm], dim=1)
    torch.testing.assert_close(found.upper - found.lower, widths.expand(2, -1))


def test_the_referee_has_the_same_optima() -> None:
    network, ball, rows = scene()
    relaxation = bounds.relax(network, ball, rows)
    found = bounds.solve(relaxation, method="exact")
    expected = torch.from_numpy(lp_reference.solve(relaxation).value)
    torch.testing.assert_close(found.lower, expected, rtol=1e-7, atol=1e-7)


def test_derivatives_of_any_order_are_those_of_the_dense_layer() -> None:
    W = weight()
    sparse, dense = linear((IN,), (OUT,), W, None), Linear((IN,), (OUT,), W)
    x = torch.randn(3, IN, dtype=torch.float64, requires_grad=True)

    def second(layer: Affine) -> torch.Tensor:
        [first] = torch.autograd.grad(layer.linear(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(sparse), second(dense))
    with fwAD.dual_level():
        y = sparse.linear(fwAD.make_dual(x.detach(), torch.ones_like(x)))
        tangent = fwAD.unpack_dual(y).tangent
        torch.testing.assert_close(tangent, torch.ones_like(x) @ W.T)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert sparse.linear(mode.from_tensor(x.detach())).shape == (3, OUT)
    live = sparse.convert(lambda values: values.clone().requires_grad_(True))
    assert isinstance(live, SparseLinear)
    [found] = torch.autograd.grad(live.linear(x.detach()).sum(), live.rows.values)
    columns = W.nonzero()[:, 1]
    torch.testing.assert_close(found, x.detach().sum(0)[columns])


class Added(nn.Module):
    """relu(a x) W + b: a product and a sum, as in ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.W = pruned()[:2], nn.Parameter(pruned()[2].weight.mT)
        self.b = nn.Parameter(torch.ones(150).double())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) @ self.W + self.b


@pytest.mark.parametrize("make", [pruned, Added])
def test_a_network_is_the_same_whether_it_can_be_trained(make: Callable[[], nn.Module]) -> None:
    """Its pruned weights are zeros of either sign."""
    model = make()
    trained, frozen = (
        bounds.from_torch(model.requires_grad_(some), (3,)).detach() for some in (True, False)
    )
    kinds = [type(node.operation) for node in frozen.nodes if isinstance(node, AffineNode)]
    assert SparseLinear in kinds
    assert network_digest(with_biases(trained)) == network_digest(with_biases(frozen))
    assert network_digest(trained) == network_digest(frozen)


def test_a_proof_about_a_pruned_network_is_accepted(tmp_path: Path) -> None:
    """By a checker that reads the same file of a model."""
    model, x = pruned(), torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    network = bounds.from_torch(model, (3,))
    label = int(network(x).argmax())
    path = tmp_path / "proof"
    found = bounds.certify(network, x, torch.tensor([label]), radius=0.8, proof=path)
    assert found.verdicts == ("unsat",)
    assert found.methods == ("input_split",)
    assert bounds.check_proof(path, network).accepted
    assert bounds.check_proof(path, dense(network)).accepted
