"""`bounds.evaluate`: verdicts against `certify` and closed forms, going on, lost processes."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bounds
from bounds import BoundsError, InvalidInputError
from bounds.engines import processes, queue
from bounds.evaluation import evaluate as module
from bounds.evaluation.result import Result
from bounds.evaluation.run import Progress, near_chance
from bounds.evaluation.store import CENTRE, Store
from bounds.evaluation.work import Task, Work
from bounds.models import load_digits_images, load_digits_model
from tests.support.evaluations import MARGINS, Mortal, separable
from tests.support.refusals import refused

RADII = [0.15, "0.35", Fraction(3, 4), 1.05]


def kept(path: Path) -> list[tuple[Any, ...]]:
    """What the database says, by SQLite alone."""
    with sqlite3.connect(path) as db:
        query = "SELECT image, radius, status, method, at, lower, seconds FROM results"
        rows = db.execute(f"{query} ORDER BY 1, 2").fetchall()
    db.close()
    return rows


def test_every_verdict_is_the_closed_form(tmp_path: Path) -> None:
    x, y = separable()
    found = bounds.evaluate(nn.Identity(), x, y, radii=RADII, results=tmp_path / "a.sqlite")
    status = {(result.image, result.radius): result.status for result in found.results}
    for image, margin in enumerate(MARGINS.tolist()):
        for k, radius in enumerate(RADII):
            safe = margin > 2 * float(Fraction(radius))
            assert status[image, k] == ("proved" if safe else "attacked"), (image, radius)
    assert len(found.results) == 12 * 4
    assert found.radii == ("0.15", "0.35", "3/4", "1.05")
    store = Store(tmp_path / "a.sqlite", reading=True)
    for image, radius, blob, answer in store.query("SELECT image, radius, x, answer FROM points"):
        point = np.frombuffer(blob)
        assert np.abs(point - x[image].numpy()).max() <= (
            0 if radius == CENTRE else float(Fraction(RADII[radius]))
        )
        assert answer == (0 if radius == CENTRE else 1) == int(point[1] > point[0])
    store.close()


def test_one_proof_and_one_counterexample_settle_other_radii(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    certify = bounds.certify

    def counted(*arguments: Any, radius: Any, **options: Any) -> bounds.Certification:
        asked.append(float(radius))
        return certify(*arguments, radius=radius, **options)

    monkeypatch.setattr("bounds.evaluation.work.certify", counted)
    x, radii = torch.tensor([[0.9, 0.0]]), [k / 10 for k in range(1, 10)]
    found = bounds.evaluate(nn.Identity(), x, 0, radii=radii)
    # One pass proves up to 0.4; of 0.5 … 0.9 the middle one is attacked, then that of the rest.
    assert asked == [0.7, 0.6, 0.5]
    assert [result.status for result in found.results] == ["proved"] * 4 + ["attacked"] * 5
    assert [result.at for result in found.results] == [3, 3, 3, 3, 4, 5, 6, 6, 6]
    assert [result.seconds > 0 for result in found.results] == [k in (3, 4, 5, 6) for k in range(9)]


def test_the_same_verdicts_as_certify() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    x, y = x[:5], y[:5]
    found = bounds.evaluate(model, x, y, radii=["1/20", "3/20", 0.1], lower=0.0, upper=1.0)
    assert found.right == int((model(x).argmax(1) == y).sum())
    network = bounds.from_torch(model, (1, 8, 8), dtype=torch.float64)
    for k, radius in enumerate((Fraction(1, 20), Fraction(0.1), Fraction(3, 20))):
        alone = bounds.certify(network, x, y, radius=radius, lower=0.0, upper=1.0)  # type: ignore[arg-type]
        of = {result.image: result for result in found.results if result.radius == k}
        for image, verdict in enumerate(alone.verdicts):
            names = {"proved": "unsat", "attacked": "sat", "wrong": "sat", "open": "unknown"}
            assert names[of[image].status] == verdict, (image, radius)
    assert sum(row.certified for row in found.rows) > 6
    assert {row.missing for row in found.rows} == {0}


def test_wrong_answers_are_settled_by_themselves() -> None:
    x, y = separable()
    found = bounds.evaluate(nn.Identity(), x, 1 - y, radii=[0.1, 0.2])
    assert found.right == 0
    assert {(result.status, result.method) for result in found.results} == {("wrong", "clean")}
    assert found.warning is not None
    assert "0 of 12 images are answered rightly, 0.0 %" in found.warning


@pytest.mark.parametrize(
    ("right", "inputs", "classes", "warned"),
    [(10, 100, 10, True), (16, 100, 10, True), (17, 100, 10, False), (0, 9, 10, False),
     (1000, 10000, 10, True), (1100, 10000, 10, False), (60, 100, 2, True), (61, 100, 2, False)],
)  # fmt: skip
def test_what_is_near_chance(right: int, inputs: int, classes: int, warned: bool) -> None:
    assert (near_chance(right, inputs, classes) is not None) == warned


def test_radii_are_in_the_units_of_the_images() -> None:
    """(x − 5) / 2 halves the distance to the other class, and a ball in units of x as well."""
    x, y = separable()
    found = bounds.evaluate(nn.Identity(), x, y, radii=RADII, mean=5.0, std=2.0)
    plain = bounds.evaluate(nn.Identity(), x, y, radii=RADII)
    assert [r.status for r in found.results] == [r.status for r in plain.results]
    proved = [(a, b) for a, b in zip(found.results, plain.results, strict=True) if a.lower]
    assert proved
    for scaled, whole in proved:
        assert scaled.lower == pytest.approx(whole.lower / 2)  # type: ignore[operator]


def test_parts_make_the_whole(tmp_path: Path) -> None:
    x, y = separable()
    whole = bounds.evaluate(nn.Identity(), x, y, radii=RADII)
    for part in (1, 2, 3, 4, 5):
        path = tmp_path / "run.sqlite"
        found = bounds.evaluate(nn.Identity(), x, y, radii=RADII, shard=(part, 5), results=path)
        assert [image.image for image in found.images] == list(range(part - 1, 12, 5))
    assert [row[:4] for row in kept(path)] == [
        (r.image, r.radius, r.status, r.method) for r in whole.results
    ]
    for shard in ((0, 2), (3, 2), (13, 20)):
        with pytest.raises(InvalidInputError, match=r"expected \(I, N\)"):
            bounds.evaluate(nn.Identity(), x, y, radii=RADII, shard=shard)


@pytest.mark.parametrize("stop", [1, 2, 5, 9])
def test_it_goes_on_where_it_was_ended(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, and nothing is done twice."""
    x, y = separable()
    path, tasks, calls = tmp_path / "run.sqlite", [], [0]
    call = Work.__call__

    def watched(self: Work, task: Task) -> Any:
        tasks.extend((task.alone, i, radius) for i in task.images for radius in task.radii)
        return call(self, task)

    def interrupt(progress: Progress) -> None:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Work, "__call__", watched)
    with pytest.raises(KeyboardInterrupt):
        bounds.evaluate(nn.Identity(), x, y, radii=RADII, results=path, watch=interrupt)
    before = kept(path)
    found = bounds.evaluate(nn.Identity(), x, y, radii=RADII, results=path)
    assert set(before) <= set(kept(path))
    assert len(set(tasks)) == len(tasks)
    monkeypatch.undo()
    at_once = bounds.evaluate(nn.Identity(), x, y, radii=RADII)
    assert [(r.image, r.radius, r.status, r.method, r.at) for r in found.results] == [
        (r.image, r.radius, r.status, r.method, r.at) for r in at_once.results
    ]


def test_another_evaluation_is_refused(tmp_path: Path) -> None:
    x, y = separable()
    path = tmp_path / "run.sqlite"

    def again(**changes: Any) -> bounds.Evaluation:
        given = {"model": nn.Identity(), "x": x, "y": y, "radii": [0.1], "results": path}
        return bounds.evaluate(**{**given, **changes})

    again()
    before = path.read_bytes()
    for change, says in (
        ({"model": nn.ReLU()}, "other model:"),
        ({"mean": 0.1}, "other model:"),
        ({"x": x + 1}, "other images:"),
        ({"x": x.float()}, "other images:"),
        ({"y": 1}, "other labels:"),
        ({"x": x[:5], "y": y[:5]}, "other inputs (12, not 5)"),
        ({"upper": 9.0}, "other box ([null, null], not [null, 9.0])"),
        ({"norm": 2}, 'other norm ("inf", not "2")'),
        ({"timeout": 1.0}, "other timeout (null, not 1.0)"),
        ({"seed": 1}, "other seed (0, not 1)"),
        ({"method": "no_split"}, "other method"),
    ):
        refused(lambda change=change: again(**change), InvalidInputError, "holds", says)  # type: ignore[misc]
    assert path.read_bytes() == before
    again(jobs=2)


@pytest.mark.parametrize("first", [["0.35", 1.05], [0.15], [Fraction(3, 4), 1.05]])
@pytest.mark.parametrize("again", [RADII, "the others"])
def test_further_radii_go_into_the_same_database(
    first: list[Any], again: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is neither done again nor changed, and settles whatever it can."""
    x, y = separable()
    path, asked = tmp_path / "run.sqlite", []
    call = Work.__call__

    def watched(self: Work, task: Task) -> Any:
        asked.extend((image, self.radii[radius]) for image in task.images for radius in task.radii)
        return call(self, task)

    bounds.evaluate(nn.Identity(), x, y, radii=first, results=path)
    before = kept(path)
    monkeypatch.setattr(Work, "__call__", watched)
    radii = RADII if again is RADII else [radius for radius in RADII if radius not in first]
    seen: list[Progress] = []
    found = bounds.evaluate(
        nn.Identity(), x, y, radii=radii, results=path, watch=seen.append, jobs=1
    )
    assert set(before) <= set(kept(path))
    assert found.radii == ("0.15", "0.35", "3/4", "1.05")
    assert len(found.results) == len(kept(path)) == 48
    assert (seen[-1].done, seen[-1].total) == (12 * len(radii), 12 * len(radii))
    where = {(result.image, result.radius): result.at for result in found.results}
    for result in found.results:
        safe = MARGINS[result.image] > 2 * float(Fraction(RADII[result.radius]))
        assert result.status == ("proved" if safe else "attacked")
        # Where it was found, it decides this one.
        assert (result.at >= result.radius) if safe else (result.at <= result.radius)
        assert where[result.image, result.at] == result.at
    tight = [Fraction(radius) for radius in first]
    for image, radius in asked:
        margin = float(MARGINS[image]) / 2
        assert radius not in tight
        assert not any(radius < known < margin or margin < known < radius for known in tight)


def test_those_who_write_while_radii_are_added_mean_what_they_meant(tmp_path: Path) -> None:
    """A radius that goes between two moves neither of them, in whatever order they write."""
    about, path = {"seed": 0}, tmp_path / "run.sqlite"
    low, middle, high = Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)
    old, new = Store(path), Store(path)
    old.claim(about, {}, {low: "0.1", high: "0.3"})
    every = new.claim(about, {}, {middle: "0.2", low: "1/10"})
    assert every == {low: "0.1", middle: "0.2", high: "0.3"}
    assert list(every) == [low, middle, high]
    new.add([Result(0, 2, "attacked", "attack", 1), Result(1, 1, "proved", "simplex", 1)])
    old.add([Result(1, 1, "attacked", "attack", 1), Result(2, 0, "proved", "simplex", 1)])
    expected = [(0, 2, 1), (1, 1, 1), (1, 2, 2), (2, 0, 2)]
    assert [(r.image, r.radius, r.at) for r in new.results()] == expected
    # What follows from a radius that the old one does not know is not its own.
    assert [(r.image, r.radius, r.at) for r in old.results()] == [(1, 1, 1), (2, 0, 1)]
    old.close()
    new.close()


def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    x, y = separable()
    foreign, text, newer = (tmp_path / name for name in ("foreign", "text", "newer"))
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE results (mine)")
    db.close()
    text.write_text("no database " * 100)
    bounds.evaluate(nn.Identity(), x, y, radii=[0.1], results=newer)
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    for path in (foreign, text, newer, tmp_path, tmp_path / "no" / "folder"):
        before = path.read_bytes() if path.is_file() else None
        refused(
            lambda path=path: bounds.evaluate(nn.Identity(), x, y, radii=[0.1], results=path),  # type: ignore[misc]
            InvalidInputError,
            repr(str(path)),
        )
        assert (path.read_bytes() if path.is_file() else None) == before


def test_a_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = separable()
    path, opened = tmp_path / "run.sqlite", Store._open

    def small(self: Store, reading: bool) -> None:
        opened(self, reading)
        self._db.execute("PRAGMA max_page_count = 12")

    monkeypatch.setattr(Store, "_open", small)
    x, y = x.repeat(100, 1), y.repeat(100)
    refused(
        lambda: bounds.evaluate(nn.Identity(), x, y, radii=[0.05], results=path),
        InvalidInputError,
        "database or disk is full",
        "is kept",
    )
    monkeypatch.undo()
    found = bounds.evaluate(nn.Identity(), x, y, radii=[0.05], results=path)
    assert {row.missing for row in found.rows} == {0}


def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    x, y = separable()
    alone = bounds.evaluate(nn.Identity(), x, y, radii=RADII)
    found = bounds.evaluate(nn.Identity(), x, y, radii=RADII, jobs=2)
    assert [(r.image, r.radius, r.status, r.at) for r in found.results] == [
        (r.image, r.radius, r.status, r.at) for r in alone.results
    ]


def test_what_a_lost_process_had_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process dies at its first sight of an image; over image 3, all do."""
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    monkeypatch.setattr(module, "Work", Mortal)
    x, y = separable()
    x, y = x[:4], y[:4]
    path = tmp_path / "run.sqlite"
    # One pass proves image 3 at 0.35, and not at 0.45.
    found = bounds.evaluate(nn.Identity(), x, y, radii=[0.35, 0.45], jobs=2, results=path)
    assert found.lost == (3,)
    both = [(k, place, "attacked") for k in range(3) for place in range(2)]
    assert [(r.image, r.radius, r.status) for r in found.results] == [*both, (3, 0, "proved")]
    assert [row.missing for row in found.rows] == [0, 1]
    deaths = (tmp_path / "deaths").read_text().split()
    assert (deaths.count("0"), deaths.count("3")) == (1, queue.TRIES)


def test_where_no_process_can_live_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEATHS", str(tmp_path / "nowhere" / "deaths"))
    monkeypatch.setattr(queue, "IN_A_ROW", 0)
    monkeypatch.setattr(processes, "_serve", None)  # nothing to call: they end as they begin
    x, y = separable()
    with pytest.raises(BoundsError, match="2 processes in a row were ended"):
        bounds.evaluate(nn.Identity(), x, y, radii=[0.1], jobs=2)


def test_an_error_in_a_process_is_that_of_one(tmp_path: Path) -> None:
    x, y = separable()
    for jobs in (1, 2):
        with pytest.raises(InvalidInputError, match="input_split"):
            bounds.evaluate(
                nn.Identity(), x, y, radii=[0.35], norm=2, method="input_split", jobs=jobs
            )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"radii": []}, "radii"),
        ({"radii": 0.1}, "radii"),
        ({"jobs": 0}, "jobs"),
        ({"jobs": 1.5}, "jobs"),
        ({"timeout": 0}, "timeout"),
        ({"seed": -1}, "seed"),
        ({"method": "best"}, "method"),
        ({"results": ""}, "results"),
        ({"results": 7}, "results"),
        ({"names": ["a"]}, "names"),
        ({"norm": 3}, "norm"),
        ({"y": 2}, "0 … 1"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "labels for 12 inputs"),
        ({"x": torch.full((2, 2), math.nan)}, "NaN"),
        ({"x": torch.zeros(0, 2)}, "empty batch"),
        ({"lower": 5.0}, "no point in common"),
        ({"lower": torch.zeros(2)}, "lower"),
        ({"upper": "1"}, "upper"),
        ({"shard": (1,)}, "shard"),
        ({"shard": "1/2"}, "shard"),
    ],
)
def test_what_is_wrong_is_said_before_work_begins(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    x, y = separable()
    given = {"model": nn.Identity(), "x": x, "y": y, "radii": [0.1]}
    path = {"results": tmp_path / "run.sqlite"}
    refused(lambda: bounds.evaluate(**{**given, **path, **changes}), InvalidInputError, says)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_pair() -> None:
    seen: list[Progress] = []
    x, y = separable()
    bounds.evaluate(nn.Identity(), x, y, radii=RADII, watch=seen.append)

    def images(results: Iterable[Result]) -> set[tuple[int, int]]:
        return {(result.image, result.radius) for result in results}

    assert seen[0].done == 0
    assert (seen[0].right, seen[0].inputs) == (12, 12)
    done = 0
    for progress in seen:
        done += len(images(progress.results))
        assert (progress.done, progress.total) == (done, 48)
    assert done == 48
