"""Which engine does the work, what it refuses, and when it gives up: without Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import bounds
from bounds import BoundsError, InvalidInputError
from bounds.engines.cluster import Cluster
from bounds.engines.queue import IN_A_ROW, TRIES, Queue
from tests.support.evaluations import separable
from tests.support.refusals import refused


def test_without_ray_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    x, y = separable()
    refused(
        lambda: bounds.evaluate(
            nn.Identity(), x, y, radii=[0.1], engine="ray", results=tmp_path / "run.sqlite"
        ),
        BoundsError,
        "pip install 'relu-bounds[cluster]'",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "ray", "address": 6379}, "an address is text"),
        ({"address": "auto"}, "use engine='ray'"),
        ({"engine": "threads"}, "'processes', 'ray'"),
        ({"engine": None}, "'processes', 'ray'"),
        ({"engine": "ray", "jobs": 0}, "jobs"),
        ({"jobs": 1025}, "from 1 to 1024"),
    ],
)
def test_options_of_no_engine(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    x, y = separable()
    given = {"radii": [0.1], "results": tmp_path / "run.sqlite", **options}
    refused(lambda: bounds.evaluate(nn.Identity(), x, y, **given), InvalidInputError, says)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_without_cpus_is_not_waited_for() -> None:
    class Empty:
        """Ray, as far as it is asked before the first task."""

        def remote(self, **_: object) -> Any:
            return lambda function: function

        def put(self, work: object) -> object:
            return work

        def cluster_resources(self) -> dict[str, float]:
            return {"memory": 1.0}

    refused(
        lambda: Cluster(Empty(), None).run(len, [()], lambda task, outcome: ()),
        BoundsError,
        "no CPU",
    )


def test_a_task_is_given_up_and_what_follows_comes_first() -> None:
    given_up: list[str] = []

    def done(task: str, outcome: int | None) -> list[str]:
        if outcome is None:
            given_up.append(task)
        return ["follows"] if task == "first" else []

    queue = Queue(iter(["first", "deadly"]), done)
    assert queue.take() == "first"
    queue.finish("first", 1)
    assert queue.take() == "follows"
    for _ in range(TRIES):
        assert queue.take() == "deadly"
        queue.lost("deadly", workers=1)
    assert (queue.take(), given_up) == (None, ["deadly"])
    with pytest.raises(ZeroDivisionError):
        queue.finish("first", ZeroDivisionError())


def test_a_machine_that_is_lost_is_no_reason_to_end() -> None:
    """All of its workers are, at once; that goes on for ever where none can live."""
    queue = Queue(iter(range(100)), lambda task, outcome: [])
    for task in range(64):
        queue.lost(task, workers=64)
    queue.finish(64, None)  # type: ignore[arg-type]
    for task in range(65, 64 + 64 + IN_A_ROW):
        queue.lost(task, workers=64)
    refused(lambda: queue.lost(0, workers=64), BoundsError, "processes in a row", "is kept")
