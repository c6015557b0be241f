"""What a `Relaxation` refuses, what it holds, and that it stays as it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import nn

import bounds
from bounds import Box, InvalidInputError, Relaxation, ReluBounds
from bounds.intermediate import intermediate
from tests.support.refusals import refused


@pytest.fixture
def relaxation() -> Relaxation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    network = bounds.from_torch(model, (3,)).detach()
    ball = bounds.Ball(torch.zeros(2, 3, dtype=torch.float64), radius=1.0)
    return bounds.relax(network, ball, bounds.margins(0, 2))


Change = Callable[[Relaxation], Relaxation]

BROKEN: dict[str, tuple[Change, str]] = {
    "l > u": (
        lambda r: replace(
            r, relu_bounds=(ReluBounds(r.relu_bounds[0].upper + 1, r.relu_bounds[0].upper),)
        ),
        "l > u or NaN",
    ),
    "NaN bounds": (
        lambda r: replace(r, relu_bounds=(r.relu_bounds[0].convert(lambda t: t * torch.nan),)),
        "l > u or NaN",
    ),
    "infinite bounds": (
        lambda r: replace(
            r, relu_bounds=(ReluBounds(r.relu_bounds[0].lower, r.relu_bounds[0].upper / 0),)
        ),
        "NaN or infinite",
    ),
    "no bounds": (lambda r: replace(r, relu_bounds=()), "bounds for 0 ReLUs"),
    "bounds of another layer": (
        lambda r: replace(r, relu_bounds=(r.relu_bounds[0].convert(lambda t: t[:, :5]),)),
        "(2, 5), expected (2, 6)",
    ),
    "inverted box": (
        lambda r: replace(r, input_set=Box(r.input_set.upper, r.input_set.lower)),
        "lower end lies above",
    ),
    "NaN box": (
        lambda r: replace(r, input_set=Box(r.input_set.lower * torch.nan, r.input_set.upper)),
        "input_set.lower",
    ),
    "infinite box": (
        lambda r: replace(r, input_set=Box(r.input_set.lower, r.input_set.upper / 0)),
        "input_set.upper",
    ),
    "no rows": (lambda r: replace(r, C=r.C[:, :0], d=r.d[:, :0]), "(2, 0, 2), which has no rows"),
    "no inputs": (lambda r: replace(r, C=r.C[:0], d=r.d[:0]), "(0, 1, 2), which has no rows"),
    "rows of another network": (lambda r: replace(r, C=r.C[..., :1]), "expected (2, 1, 2)"),
    "offsets of other rows": (lambda r: replace(r, d=r.d[:1]), "d of shape (1, 1)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_inconsistent_data_is_refused(relaxation: Relaxation, name: str) -> None:
    change, message = BROKEN[name]
    with pytest.raises(InvalidInputError) as caught:
        change(relaxation)
    assert message in str(caught.value)


def test_where_bounds_come_from_goes_with_them(relaxation: Relaxation) -> None:
    """The checker derives l and u by the rule that the relaxation names."""
    ball, rows = relaxation.input_set, bounds.margins(0, 2)
    assert relaxation.implied
    for method in ("interval", "backward", "optimised", "lp"):
        for slope in ("fixed", "adaptive"):
            made = bounds.relax(
                relaxation.network,
                ball,  # type: ignore[arg-type]
                rows,
                intermediate=method,  # type: ignore[arg-type]
                slope=slope,  # type: ignore[arg-type]
            )
            used = slope if method in ("backward", "lp") else None
            one = torch.arange(1)
            assert made.take(one, one).unsolved == made.unsolved[:1]
            assert len(made.unsolved) == (len(made.C) if method == "lp" else 0)
            for same in (made, made.double(), made.take(one, one)):
                assert (same.intermediate, same.slope, same.implied) == (method, used, True)
    # l and u may have been rounded inward.
    rounded = relaxation.convert(torch.Tensor.float)
    assert (rounded.intermediate, rounded.slope, rounded.implied) == ("given", None, False)
    by_hand = Relaxation(
        *(relaxation.network, relaxation.input_set, relaxation.C, relaxation.d),
        relaxation.relu_bounds,
    )
    assert (by_hand.intermediate, by_hand.slope, by_hand.implied) == ("given", None, False)


def test_the_memory_of_relax_is_a_number_of_bytes(
    relaxation: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relax(max_memory: int) -> Relaxation:
        return bounds.relax(
            relaxation.network,
            relaxation.input_set,  # type: ignore[arg-type]
            bounds.margins(0, 2),
            max_memory=max_memory,
        )

    refused(lambda: relax(0), InvalidInputError, "relax(max_memory=0)")
    asked: list[int | None] = []
    original = intermediate.rows_at_once

    def rows_at_once(like: torch.Tensor, numbers: int, max_memory: int | None) -> int:
        asked.append(max_memory)
        return original(like, numbers, max_memory)

    monkeypatch.setattr(intermediate, "rows_at_once", rows_at_once)
    relax(12345)
    assert set(asked) == {12345}


def test_it_is_frozen(relaxation: Relaxation) -> None:
    with pytest.raises(FrozenInstanceError):
        relaxation.d = relaxation.d + 1  # type: ignore[misc]


def test_unstable_counts_each_input(relaxation: Relaxation) -> None:
    neurons = relaxation.relu_bounds[0]
    expected = ((neurons.lower < 0) & (neurons.upper > 0)).sum(1)
    assert relaxation.unstable == tuple(expected.tolist())


def test_overflow_is_refused_by_name() -> None:
    """Weights that float32 holds, with pre-activations that it does not."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for layer in (model[0], model[1]):
            layer.weight.fill_(1e30)  # type: ignore[union-attr, operator]
    network = bounds.from_torch(model, (1,))
    with pytest.raises(InvalidInputError, match=r"overflow.*float32"):
        bounds.relax(network, bounds.Ball(torch.ones(1), radius=0.5), bounds.margins(0, 2))


def test_network_and_inputs_of_two_dtypes_are_refused() -> None:
    network = bounds.from_torch(nn.Linear(2, 2), (2,))
    ball = bounds.Ball(torch.ones(2, dtype=torch.float64), radius=0.1)
    with pytest.raises(InvalidInputError, match=r"float32.*float64.*convert"):
        bounds.relax(network, ball, bounds.margins(0, 2))
