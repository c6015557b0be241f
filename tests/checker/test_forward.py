"""What the checker carries forward holds, and is what the search carries."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds
from bounds.checker.forward import carried
from bounds.checker.passes import Passes
from bounds.intermediate import forward
from bounds.intermediate.forward import forward_bounds
from bounds.search.domains import bounds_of
from bounds.sets.box import Box
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.proofs import contents, edit, hard_property, reasons
from tests.support.rational import evaluate, fractions
from tests.support.referee import random_model
from tests.support.refusals import refused


@given(architectures(), seeds, st.sampled_from([1e-3, 0.1, 1.0]))
def test_it_is_what_the_search_carries(architecture: Architecture, seed: int, width: float) -> None:
    network, dice = architecture.network(), Dice(seed)
    lower = dice.normal(4, *network.input_shape) / 2
    box = Box(lower, lower + width * dice.uniform(*lower.shape))
    shapes = [torch.Size(network.nodes[index].shape) for index in network.relus]
    neurons = sum(shape.numel() for shape in shapes)
    signs = ((dice.below(3, 4, neurons) - 1) * (seed % 2)).to(torch.int8)
    known = bounds_of(signs, shapes, torch.float64)
    expected = forward_bounds(network, box, known)
    ends = (end.flatten(1).numpy() for end in (box.lower, box.upper))
    some = np.array([True, True, False, True])
    faces = carried(Passes(network), *ends, signs.numpy(), some).faces
    assert len(faces) == len(expected)
    for face, layer in zip(faces, expected, strict=True):
        for found, end in ((face.lower, layer.lower), (face.upper, layer.upper)):
            assert np.isinf(found[2]).all()
            torch.testing.assert_close(
                torch.from_numpy(found[some]), end.flatten(1)[some], rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("width", [0.0, 1e-16])
def test_rounding_is_accounted_for(width: float) -> None:
    """On boxes that are hardly more than a point, nothing else makes room for exact values."""
    model = random_model(3, 12, 12, 2, scale=2.0).double()
    passes = Passes(bounds.from_torch(model, (3,)).detach())
    lower = torch.rand(5, 3, dtype=torch.float64) - 0.5
    signs = np.zeros((5, passes.neurons), dtype=np.int8)
    ends = lower.numpy(), (lower + width).numpy()
    for k, face in enumerate(carried(passes, *ends, signs, np.ones(5, dtype=bool)).faces):
        for image, x in enumerate(lower):
            exact = evaluate(model[: 2 * k + 1], fractions(x))
            low, high = (list(map(Fraction, end[image])) for end in (face.lower, face.upper))
            assert all(l <= z <= u for l, z, u in zip(low, exact, high, strict=True))
            assert all(u - l < Fraction(1, 10**11) for l, u in zip(low, high, strict=True))


def test_ties_are_no_matter_of_rounding() -> None:
    """Every neuron of the first layer has u = −l but for rounding, and a slope of 1/2."""
    model, dice = random_model(5, 60, 60, 2, scale=2.0).double(), Dice(0)
    centre, reach = dice.normal(1, 5), dice.uniform(20, 5)
    model[0].bias.data = -(model[0].weight.data @ centre[0])
    network = bounds.from_torch(model, (5,)).detach()
    box = Box(centre - reach, centre + reach)
    shapes = [torch.Size(network.nodes[index].shape) for index in network.relus]
    signs = torch.zeros(20, 120, dtype=torch.int8)
    expected = forward_bounds(network, box, bounds_of(signs, shapes, torch.float64))
    ends, some = (box.lower.numpy(), box.upper.numpy()), np.ones(20, dtype=bool)
    faces = carried(Passes(network), *ends, signs.numpy(), some).faces
    for face, layer in zip(faces, expected, strict=True):
        for found, end in ((face.lower, layer.lower), (face.upper, layer.upper)):
            torch.testing.assert_close(torch.from_numpy(found), end, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dear", [0, 1e-3])
def test_a_search_whose_bounds_are_carried_forward(tmp_path: Path, dear: float) -> None:
    """With 1e-3, boxes of many unstable neurons have no others, and those of few do."""
    network, property = hard_property(0.05)
    path = tmp_path / "proof"
    with patch.object(forward, "DEAR", dear):
        found = bounds.certify_vnnlib(network, property, proof=path)
    assert found.verdict == "unsat"
    check = bounds.check_proof(path, network, vnnlib=property)
    assert check.accepted, reasons(check)
    assert bounds.check_proof(path, network, vnnlib=property, exact=True).accepted
    _, arrays = contents(path)
    nodes = len(arrays["node.kind"])
    alone = np.unpackbits(arrays["node.forward"])[:nodes]
    assert arrays["disjunct.forward"].tolist() == [1]
    assert 0 < alone.sum() <= nodes
    assert dear == 0 or alone.sum() < nodes

    def other(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
        return edit(path, lambda _, arrays: arrays.update({name: change(arrays[name])}))

    short = other("node.forward", lambda bits: bits[:-1])
    assert "of another number of nodes" in reasons(bounds.check_proof(short, network))
    none = edit(path, lambda _, arrays: arrays.pop("node.forward"))
    refused(
        lambda: bounds.check_proof(none, network),
        bounds.InvalidInputError,
        "lacks tensor 'node.forward'",
    )
    moved = other("row.d", lambda d: d - 0.1)
    assert not bounds.check_proof(moved, network).accepted


@pytest.mark.parametrize(
    ("seed", "radius"), [(20, 0.1), (23, 0.2), (24, 0.1), (47, 0.1), (55, 0.1)]
)
def test_ties_of_the_adaptive_slope_are_none_either(
    tmp_path: Path, seed: int, radius: float
) -> None:
    """Every neuron of the first layer has u = −l but for rounding, which is not the checker's."""
    model, dice = random_model(4, 30, 30, 3, seed=seed, scale=1.5).double(), Dice(seed)
    centre = dice.normal(1, 4)
    model[0].bias.data = -(model[0].weight.data @ centre[0])
    model[2].bias.data = dice.normal(30)
    network = bounds.from_torch(model, (4,)).detach()
    label, path = network(centre).argmax(1), tmp_path / "proof"
    found = bounds.certify(network, centre, label, radius=radius, method="input_split", proof=path)
    assert found.verdicts == ("unsat",)
    check = bounds.check_proof(path, network)
    assert check.accepted, reasons(check)
