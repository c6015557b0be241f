"""What is read of a record of the speed benchmark: gaps, who is first, growth."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measure import growth, reading
from benchmarks.measure import report as speed_report
from benchmarks.measure.methods import METHODS
from benchmarks.measure.workloads import NETWORKS, Setting


def cell(seconds: float, values: list[float | None], megabytes: float = 20.0) -> dict[str, Any]:
    of = len(values)
    return {"seconds": seconds, "values": values, "of": of, "solved": of, "megabytes": megabytes}


#: Two LPs whose optima are 2 and -0.5; "exact" did not get through the second.
NETWORK = {
    "cells": {
        "solve: fixed slope @ 3": cell(0.1, [1.0, -1.0]),
        "solve: optimised slope to 1e-3 @ 3": cell(1.0, [1.999, -0.5002]),
        "solve: pdhg to 1e-3 @ 3": {"note": "over 1 s"},
        "solve: pdhg to 1e-3 @ 1": cell(1.0, [2.0]),
        "solve: exact @ 3": cell(2.0, [2.0, None]),
        "solve: simplex @ 3": cell(3.0, [2.0, -0.5]),
        "solve: HiGHS simplex, warm @ 3": cell(0.5, [2.0 + 1e-12]),
    }
}


def test_gaps_are_relative_to_the_optima_that_anyone_found() -> None:
    assert reading.optima(NETWORK) == [2.0, -0.5]
    solvers = reading.solvers(NETWORK)
    assert "pdhg to 1e-3" not in solvers
    gaps = {name: reading.gaps(NETWORK, found) for name, found in solvers.items()}
    assert gaps["fixed slope"] == [0.5, 1.0]
    assert gaps["optimised slope to 1e-3"] == pytest.approx([5e-4, 4e-4])
    assert gaps["exact"] == [0.0, float("inf")]
    assert gaps["HiGHS simplex, warm"] == [0.0]
    assert reading.mean_gap(NETWORK, solvers["fixed slope"]) == 0.75


@pytest.mark.parametrize(
    ("names", "largest", "first"),
    [
        (reading.OURS, 1.0, "fixed slope"),
        (reading.OURS, 1e-3, "optimised slope to 1e-3"),
        (reading.OURS, 1e-6, "simplex"),
        (("exact",), 1e-6, None),
        (reading.peers(NETWORK), 1e-6, "HiGHS simplex, warm"),
    ],
)
def test_the_first_of_those_that_arrive(
    names: tuple[str, ...], largest: float, first: str | None
) -> None:
    winner = reading.cheapest(NETWORK, names, largest)
    assert (winner and winner[0]) == first


def test_the_names_and_batches_are_those_of_the_benchmark() -> None:
    for name, method in METHODS.items():
        ours = name.removeprefix("solve: ") in reading.OURS
        assert (method.task == "solve" and not method.peer) == ours
        for network, workload in NETWORKS.items():
            key = f"{name} @ {growth.usual(network, method)}"
            others = {f"{name} @ {batch}": {} for batch in method.batches(workload)}
            assert f"{name} @ {reading.setting({'cells': others}, name)}" == key


def test_what_takes_less_comes_from_every_direction() -> None:
    method = METHODS["solve: exact"]
    large = Setting(batch=3, rows=3, radii=2.0, cores=1)
    found = list(growth.easier("mlp 3×100", large, method))
    assert found == [
        ("mlp 3×50", large),
        ("mlp 2×100", large),
        ("mlp 3×100", Setting(batch=1, rows=3, radii=2.0, cores=1)),
        ("mlp 3×100", Setting(batch=3, rows=1, radii=2.0, cores=1)),
        ("mlp 3×100", Setting(batch=3, rows=3, radii=0.5, cores=1)),
        ("mlp 3×100", Setting(batch=3, rows=3, radii=1.0, cores=1)),
        ("mlp 3×100", Setting(batch=3, rows=3, radii=2.0)),
    ]


def test_growth_with_unstable_neurons_counts_those_of_its_own_inputs() -> None:
    """Of ten inputs, the first three are those of the LPs."""
    cells = {}
    for radii in growth.RADII:
        counts = [10 * radii] * 3 + [1000.0] * 7
        for name, batch, seconds in (
            ("relax: backward", 10, 1.0),
            ("solve: exact", 3, (10 * radii) ** 1.5),
        ):
            key = f"{name} @ {Setting(batch=batch, radii=radii)}"
            cells[key] = cell(seconds, counts, megabytes=100 * radii**2)
    record = {"networks": {growth.GROWING["unstable"]: {"cells": cells}}}
    powers = speed_report.exponents(record, "seconds")["solve: exact"]
    assert powers == {"unstable": pytest.approx(1.5)}
    memory = speed_report.exponents(record, "megabytes")["solve: exact"]
    assert memory == {"unstable": pytest.approx(2.0)}
