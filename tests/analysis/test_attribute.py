"""Against the referee's LPs and integer programs, the identity that shares the triangles' part out,
and a closed form."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings

import bounds
import lp_reference
from bounds import Attribution, InvalidInputError
from tests.support.problems import Problem, problems
from tests.support.referee import random_net
from tests.support.refusals import refused


def problem() -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(3)).double()
    return random_net(3, 6, 6, 3, seed=4), bounds.Ball(x, radius=0.7), bounds.margins(0, 3)


@pytest.fixture(scope="module")
def found() -> Attribution:
    return bounds.attribute(*problem())


def test_the_steps_are_the_referees(found: Attribution) -> None:
    """The LP with one-pass l and u, the LP with LP-optimal ones, and the true minimum."""
    network, ball, rows = problem()
    first = bounds.relax(network, ball, rows)
    last = bounds.relax(network, ball, rows, intermediate="lp")
    lp = torch.from_numpy(lp_reference.solve(first).value)
    lp_all = torch.from_numpy(lp_reference.solve(last).value)
    true = torch.from_numpy(lp_reference.solve(first, milp=True).value)
    fixed = bounds.solve(first, method="fixed_slope").lower
    for both, expected in (
        (found.slope, lp - fixed),
        (found.intermediate, lp_all - lp),
        (found.relaxation, true - lp_all),
    ):
        for end in both:
            torch.testing.assert_close(end, expected, rtol=0, atol=1e-5)
        assert (expected > 1e-4).any()
    assert found.solved.all()
    assert found.closed.all()


def test_costs_add_up_to_the_triangles_part(found: Attribution) -> None:
    total = found.input_cost + sum(costs.flatten(2).sum(2) for costs in found.costs)
    whole = found.minimum[1] - found.lp_all[0]
    torch.testing.assert_close(total, whole, rtol=0, atol=1e-9)
    assert (whole > 1e-3).any()
    assert (found.relaxation[1] >= whole - 1e-12).all()
    for costs, layer in zip(found.costs, bounds.relax(*problem()).layers, strict=True):
        stable = torch.from_numpy((layer.lower >= 0) | (layer.upper <= 0)).unsqueeze(1)
        assert (costs[stable.expand_as(costs)] == 0).all()


def test_the_minimum_is_attained_where_it_says(found: Attribution) -> None:
    network, _, rows = problem()
    y = network(found.x.flatten(0, 1)).unflatten(0, (2, 2))
    there = (y * rows.C).sum(2)
    torch.testing.assert_close(there, found.minimum[1], rtol=0, atol=1e-9)


@settings(max_examples=10)
@given(problems())
def test_intervals_hold_and_costs_add_up_however_little_time_there_is(problem: Problem) -> None:
    outputs = torch.Size(problem.network.output_shape).numel()
    rows = bounds.Specification(torch.eye(outputs, dtype=torch.float64)[:2])
    cut = bounds.attribute(problem.network, problem.ball, rows, time_limit=1e-9)
    total = cut.input_cost + sum(costs.flatten(2).sum(2) for costs in cut.costs)
    size = 1 + cut.minimum[1].abs() + cut.lp_all[0].abs()
    torch.testing.assert_close(
        total / size, (cut.minimum[1] - cut.lp_all[0]) / size, rtol=0, atol=1e-6
    )
    for low, high in (cut.slope, cut.intermediate, cut.relaxation):
        assert (low >= 0).all()
        assert (low <= high).all()
    assert (cut.fixed_slope <= cut.lp[0]).all()
    assert (cut.lp[0] <= cut.lp_all[0]).all()


def test_closed_forms() -> None:
    """On [−1, 1]. relu(x): the fixed slope's x / 2 is −1/2 at −1, and the LP loses nothing.
    relu(x) − relu(x): the LP takes one from below and the other from above, max(0, x) and
    (x + 1) / 2, which leaves −1/2 at 0, where the multiplier of either is 1/2; so that they cost
    |x| / 2 and (1 − |x|) / 2 at any x."""
    model = torch.nn.Sequential(
        torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2, bias=False)
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 0.0]]))
    network = bounds.from_torch(model, (1,)).detach()
    box = bounds.Box(-torch.ones(1, 1).double(), torch.ones(1, 1).double())
    found = bounds.attribute(network, box, bounds.Specification(torch.eye(2).double()))
    x = abs(found.x[0, 0].item())
    assert found.fixed_slope[0].tolist() == pytest.approx([-0.5, -0.5])
    assert found.slope[0][0].tolist() == pytest.approx([0.0, 0.5], abs=1e-6)
    assert found.relaxation[1][0].tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert found.costs[0][0, 0].tolist() == pytest.approx([x / 2, (1 - x) / 2], abs=1e-6)
    assert found.input_cost[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_worst_neurons_in_falling_order(found: Attribution) -> None:
    worst = found.worst(0, 0, 3)
    assert len(worst) == 3
    assert [cost for *_, cost in worst] == sorted((cost for *_, cost in worst), reverse=True)
    for name, position, cost in worst:
        assert found.costs[found.names.index(name)][0, 0].flatten()[position].item() == cost
    largest = max(float(costs[0, 0].max()) for costs in found.costs)
    assert worst[0][2] == largest


def test_what_is_shown_and_written(found: Attribution) -> None:
    lines = repr(found).splitlines()
    assert lines[0] == "Attribution of 2 inputs, 2 rows each"
    assert len(lines) == 6
    assert lines[2].split()[:3] == ["0", "0", f"{found.fixed_slope[0, 0]:+.4f}"]
    record = json.loads(json.dumps(found.to_dict()))
    assert len(record["rows"]) == 4
    line = record["rows"][1]
    assert (line["input"], line["row"], line["solved"]) == (0, 1, True)
    assert line["lost"]["slope"] == [end[0, 1].item() for end in found.slope]
    assert line["minimum"] == [end[0, 1].item() for end in found.minimum]
    assert [layer["name"] for layer in line["costs"]] == list(found.names)


def test_the_picture(found: Attribution, tmp_path: Path) -> None:
    found.plot(tmp_path / "a.png", input=1, row=1)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    cut = bounds.attribute(*problem(), time_limit=1e-9)
    cut.plot(tmp_path / "b.svg")
    text = (tmp_path / "b.svg").read_text()
    assert "<svg" in text
    refused(lambda: found.plot(tmp_path / "c.txt"), InvalidInputError, ".png")
    refused(lambda: found.plot(tmp_path / "c.png", row=2), InvalidInputError, "row=2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.svg"]


def test_what_is_refused() -> None:
    network, ball, rows = problem()
    wrong: Any = torch.nn.Linear(2, 2)
    refused(lambda: bounds.attribute(wrong, ball, rows), InvalidInputError, "got a Linear")
    refused(
        lambda: bounds.attribute(network, ball, rows, time_limit=math.nan),
        InvalidInputError,
        "time_limit",
    )
    refused(lambda: bounds.attribute(network, ball, rows, seed=-1), InvalidInputError, "seed=-1")


def test_rows_that_are_none(found: Attribution) -> None:
    wrong: list[Any] = [5, -1, "a", None]
    for value in wrong:
        refused(lambda v=value: found.worst(v, 0), InvalidInputError, "worst(input=")
        refused(lambda v=value: found.worst(0, v), InvalidInputError, "worst(row=")
    refused(lambda: found.worst(0, 0, 0), InvalidInputError, "worst(count=0)")
    no_number: Any = "x"
    refused(lambda: found.table(no_number), InvalidInputError, "table(most='x')")
    assert len(found.table(1).splitlines()) == 4
