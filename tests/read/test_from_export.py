"""Archives of torch.export: what is read is what the module computes, or the layer is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from bounds import InvalidInputError, UnsupportedLayerError, from_export
from tests.support.exported import MODELS, export

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.9", reason="older torch.export.save writes the layout that is refused"
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_network_computes_what_the_module_does(
    name: str, dynamic: bool, strict: bool, tmp_path: Path
) -> None:
    make, shape = MODELS[name]
    model = make()
    path = export(model, torch.randn(2, *shape), tmp_path / "m.pt2", dynamic=dynamic, strict=strict)
    network = from_export(path)
    x = torch.randn(7, *shape)
    assert network.input_shape == shape
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)
    if name != "constants":  # whose own tensors stay in float32
        double = from_export(str(path), dtype=torch.float64)
        expected = model.double()(x.double())
        torch.testing.assert_close(double(x.double()), expected, rtol=1e-12, atol=1e-12)


def test_nodes_carry_the_names_of_the_layers(tmp_path: Path) -> None:
    make, shape = MODELS["residual"]
    archive = export(make(), torch.randn(2, *shape), tmp_path / "m.pt2", dynamic=True)
    names = [node.name for node in from_export(archive, dtype=torch.float64).nodes]
    assert names == [
        *("input", "first.0", "first.1", "first.2", "second", "add", "relu", "pool", "view"),
        *("fc", "mul", "sub"),
    ]


def test_half_precision_needs_a_dtype(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2)).bfloat16()
    path = export(model, torch.randn(2, 3).bfloat16(), tmp_path / "m.pt2", dynamic=True)
    with pytest.raises(InvalidInputError, match="bfloat16"):
        from_export(path)
    x = torch.randn(4, 3)
    expected = model.float()(x)
    assert torch.equal(from_export(path, dtype=torch.float32)(x), expected)


class Flagged(nn.Module):
    def forward(self, x: Tensor, double: bool, scale: float) -> Tensor:
        return scale * x if double else x


def test_arguments_that_are_no_tensors_keep_their_exported_values(tmp_path: Path) -> None:
    x = torch.randn(2, 3)
    program = torch.export.export(Flagged(), (x, True, 2.5))
    torch.export.save(program, tmp_path / "m.pt2")
    assert torch.equal(from_export(tmp_path / "m.pt2")(x), 2.5 * x)


# -- what is refused in a model --------------------------------------------------------------------


class Calls(nn.Module):
    """A linear layer and whatever the case does with its output, its input and the module."""

    buffer: Tensor
    index: Tensor

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("buffer", torch.ones(4))
        self.register_buffer("index", torch.tensor([1, 0]))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x), x, self)


def _keeps_counting(h: Tensor, x: Tensor, m: Calls) -> Tensor:
    m.buffer.add_(1)
    return h + m.buffer


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "unknown": (lambda h, x, m: F.gelu(h), "gelu.default is not modelled"),
    "constants": (lambda h, x, m: h + m.buffer.erf(), "erf.default is not modelled"),
    "random numbers": (lambda h, x, m: h + torch.randn(4), "randn.default draws random numbers"),
    "noise": (lambda h, x, m: h + torch.rand_like(h), "rand_like.default draws random numbers"),
    "softmax": (lambda h, x, m: h.softmax(1), "read the model with drop_softmax=True"),
    "product": (lambda h, x, m: h * h, "depends on the input"),
    "in place": (lambda h, x, m: F.relu_(h + 1).sub(h) + h.relu_(), "in place"),
    "in place, of a view": (lambda h, x, m: h.view(-1, 2, 2).relu_().flatten(1) + h, "in place"),
    "in place, of the output": (lambda h, x, m: (h.view(-1, 2, 2).relu_(), h)[1], "in place"),
    "buffer": (_keeps_counting, "changes a parameter or buffer in place"),
    "batch mixed": (lambda h, x, m: h.reshape(8).reshape(2, 4), "does not keep one row a sample"),
    "two outputs": (lambda h, x, m: (h, x), "returns 2 values"),
    "constant output": (lambda h, x, m: m.buffer * 2, "does not depend on its input"),
    "dtype": (lambda h, x, m: h.double(), "turns torch.float32 into torch.float64"),
    "arguments": (
        lambda h, x, m: F.max_pool2d(h.view(-1, 1, 2, 2), 2, return_indices=True)[1] + h,
        "which it reads, is not modelled",
    ),
    "batch cut": (lambda h, x, m: h[:1], "along the batch axis"),
    "batch flipped": (lambda h, x, m: h.flip(0), "along the batch axis"),
    "batch joined": (lambda h, x, m: torch.cat((h, x)), "along the batch axis"),
    "batch indexed": (lambda h, x, m: h[m.index], "does not keep one row a sample"),
    "constant part": (
        lambda h, x, m: torch.cat((h, m.buffer.expand(2, -1)), 1),
        "its part is a constant",
    ),
    "squeeze of everything": (lambda h, x, m: h.squeeze(), "name the axes to drop"),
    "in place, of what is joined": (
        lambda h, x, m: torch.cat((h.view(-1, 2, 2).relu_().flatten(1), h), 1),
        "in place",
    ),
    "in place, of a part": (lambda h, x, m: h[:, 1:].relu_().sum(1, True) + h, "in place"),
    "bilinear": (
        lambda h, x, m: F.interpolate(h.view(-1, 1, 2, 2), scale_factor=2, mode="bilinear"),
        "upsample_bilinear2d.vec is not modelled",
    ),
    "training": (lambda h, x, m: F.dropout(h, 0.5, training=True), "model.eval()"),
    "no grad": (lambda h, x, m: _without_grad(h), "wrap_with_set_grad_enabled"),
}


def _without_grad(h: Tensor) -> Tensor:
    with torch.no_grad():
        return h + 1


@pytest.mark.parametrize("case", REFUSED)
def test_model_is_refused(case: str, tmp_path: Path) -> None:
    function, message = REFUSED[case]
    path = export(Calls(function), torch.randn(2, 4), tmp_path / "m.pt2", dynamic=False)
    with pytest.raises(UnsupportedLayerError) as caught:
        from_export(path)
    assert message in str(caught.value)


def _normed() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    parametrizations.weight_norm(model[0])
    return model


class _Computed(nn.Module):
    """Parameters that are transposed, exponentiated and normalised before they meet the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm(dim=1, keepdim=True)
        y = x @ weight.T * self.gain.exp() + torch.zeros(2) + torch.arange(2) ** 2
        return torch.max(y, -y) + y.amax(1, keepdim=True) - y.min(1, keepdim=True).values


def _small_image() -> nn.Module:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2), nn.Hardsigmoid()),
        *(nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(8, 2)),
    )


@pytest.mark.parametrize("decomposed", [False, True], ids=["", "decomposed"])
@pytest.mark.parametrize("make", [_normed, _Computed, _small_image, lambda: nn.Linear(3, 2)])
def test_computed_parameters_and_decomposed_graphs(
    make: Callable[[], nn.Module], decomposed: bool, tmp_path: Path
) -> None:
    model = make().eval()
    program = torch.export.export(model, (torch.randn(2, 3),))
    program = program.run_decompositions() if decomposed else program
    torch.export.save(program, tmp_path / "m.pt2")
    x = torch.randn(7, 3)
    torch.testing.assert_close(from_export(tmp_path / "m.pt2")(x), model(x), rtol=1e-5, atol=1e-5)


def test_softmax_at_the_end(tmp_path: Path) -> None:
    logits = nn.Linear(3, 2)
    program = torch.export.export(nn.Sequential(logits, nn.LogSoftmax(1)), (torch.randn(2, 3),))
    torch.export.save(program, tmp_path / "m.pt2")
    x = torch.randn(7, 3)
    network = from_export(tmp_path / "m.pt2", drop_softmax=True)
    torch.testing.assert_close(network(x), logits(x), rtol=1e-5, atol=1e-6)


def test_other_dynamic_axes_and_inputs_are_refused(tmp_path: Path) -> None:
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("length")},)
    x = torch.randn(2, 3)
    torch.export.save(torch.export.export(nn.ReLU(), (x,), dynamic_shapes=shapes), tmp_path / "a")
    with pytest.raises(UnsupportedLayerError, match="axis 1 of 'input' has no fixed size"):
        from_export(tmp_path / "a")
    torch.export.save(torch.export.export(nn.Bilinear(3, 3, 2), (x, x)), tmp_path / "b")
    with pytest.raises(UnsupportedLayerError, match="takes 2 input tensors"):
        from_export(tmp_path / "b")
