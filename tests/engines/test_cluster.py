"""Work on a cluster of Ray: a small one on this machine, whose workers are killed meanwhile."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import bounds
from benchmarks.published.escalate import Chunk, Escalation, Found, Group
from bounds import BoundsError, InvalidInputError
from bounds.engines.choice import opened
from bounds.engines.cluster import _do
from bounds.engines.processes import Processes
from bounds.engines.queue import TRIES, Engine
from bounds.evaluation import evaluate as module
from bounds.evaluation.run import Progress
from bounds.models import load_digits_images, load_digits_model
from tests.conftest import Run
from tests.support.evaluations import Mortal, separable
from tests.support.queries import write
from tests.support.refusals import refused

RADII = [0.15, "0.35", 0.75, 1.05]

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'relu-bounds[cluster]'")


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "deaths"


@pytest.fixture(scope="module")
def cluster(deaths: Path) -> Iterator[None]:
    """Two workers, which this process is connected to."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("DEATHS", str(deaths))
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=80 * 2**20, logging_level="ERROR",
        )  # fmt: skip
        yield
        ray.shutdown()


def said(found: bounds.Evaluation) -> list[tuple[Any, ...]]:
    return [(r.image, r.radius, r.status, r.method, r.at, r.lower) for r in found.results]


@pytest.mark.usefixtures("cluster")
def test_a_cluster_finds_what_one_process_finds(tmp_path: Path) -> None:
    x, y = separable()
    found = {}
    for engine in ("processes", "ray"):
        folder = tmp_path / engine
        found[engine] = said(
            bounds.evaluate(
                nn.Identity(), x, y, radii=RADII, engine=engine, proofs=folder,  # type: ignore[arg-type]
                results=tmp_path / f"{engine}.sqlite",
            )
        )  # fmt: skip
    assert found["ray"] == found["processes"]
    one, two = (sorted((tmp_path / engine).iterdir()) for engine in ("processes", "ray"))
    assert one
    assert [file.name for file in one] == [file.name for file in two]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_what_a_killed_worker_had_is_done_again(
    deaths: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is killed at its first sight of an image; over image 3, all are."""
    monkeypatch.setattr(module, "Work", Mortal)
    x, y = separable()
    results = tmp_path / "run.sqlite"
    found = bounds.evaluate(
        nn.Identity(), x[:4], y[:4], radii=[0.45], engine="ray", results=results
    )
    assert found.lost == (3,)
    assert [(r.image, r.status) for r in found.results] == [(k, "attacked") for k in range(3)]
    assert [row.missing for row in found.rows] == [1]
    killed = deaths.read_text().split()
    assert [killed.count(image) for image in "0123"] == [1, 1, 1, TRIES]
    monkeypatch.undo()
    found = bounds.evaluate(nn.Identity(), x[:4], y[:4], radii=[0.45], results=results)
    assert (found.lost, len(found.results)) == ((), 4)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ctrl_c_keeps_what_is_there(tmp_path: Path) -> None:
    x, y = separable()
    results, calls = tmp_path / "run.sqlite", 0

    def interrupt(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    def count() -> int:
        with sqlite3.connect(results) as db:
            return int(db.execute("SELECT count(*) FROM results").fetchone()[0])

    given = {"radii": RADII, "results": results, "engine": "ray"}
    with pytest.raises(KeyboardInterrupt):
        bounds.evaluate(nn.Identity(), x, y, watch=interrupt, **given)  # type: ignore[arg-type]
    assert 0 < count() < 48
    bounds.evaluate(nn.Identity(), x, y, **given)  # type: ignore[arg-type]
    assert count() == 48


@pytest.mark.usefixtures("cluster")
def test_an_error_in_a_worker_is_that_of_one() -> None:
    x, y = separable()
    with pytest.raises(InvalidInputError, match="input_split"):
        bounds.evaluate(
            nn.Identity(), x, y, radii=[0.35], norm=2, method="input_split", engine="ray"
        )


class Foreign:
    """Work that a worker cannot read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("of_another_machine",)


@pytest.mark.usefixtures("cluster")
def test_a_machine_without_what_is_needed_is_said() -> None:
    with opened("call", "ray") as engine:
        refused(
            lambda: engine.run(Foreign(), [1], lambda task, outcome: ()),  # type: ignore[arg-type]
            BoundsError,
            "No module named 'of_another_machine'",
            "install the same bounds",
        )
    found = _do([None], 1, "0.0")
    assert isinstance(found, BoundsError)
    assert f"has bounds {bounds.__version__}, and this machine 0.0: install" in str(found)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_benchmark_on_a_cluster(run: Run, tmp_path: Path) -> None:
    folder, output = tmp_path / "ramp", tmp_path / "out"
    folder.mkdir()
    write(folder / "relu.onnx", [("Relu", "x", "y")], {"x": [1, 1]}, {"y": [1, 1]})
    (folder / "low.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= Y_0 0.5))"
    )
    (folder / "instances.csv").write_text("relu.onnx,low.vnnlib,60\nrelu.onnx,missing.vnnlib,60\n")
    status, out, _ = run("benchmark", str(folder), "--output", str(output), "--engine", "ray")
    assert (status, "1 of 2 solved" in out) == (0, True)
    assert (output / "instances" / "relu__low.txt").read_text().startswith("sat\n((X_0")
    assert "No such file" in (output / "instances" / "relu__missing.txt").read_text()


@pytest.mark.usefixtures("cluster")
def test_images_escalate_on_a_cluster() -> None:
    images, labels = load_digits_images()
    model = load_digits_model("digits_standard").double()
    network = bounds.from_torch(model, (1, 8, 8)).detach()
    work = Escalation(network, images.double(), labels, 0.03, "cpu", range(16))

    def measured(engine: Engine) -> dict[int, tuple[str, bool]]:
        found: dict[int, tuple[str, bool]] = {}

        def done(task: Chunk | Group, outcome: Found | None) -> tuple[Group, ...]:
            assert outcome is not None
            found.update({one.image: (one.decided, one.certified) for one in outcome.outcomes})
            return outcome.left

        engine.run(work, [Chunk(tuple(range(8))), Chunk(tuple(range(8, 16)))], done)
        return found

    with opened("call", "ray", jobs=2) as engine:
        found = measured(engine)
    assert found == measured(Processes(1))
    assert sorted(found) == list(range(16))
    assert "lp_last" in {decided for decided, _ in found.values()}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"address": "127.0.0.1:9"}, BoundsError, "no cluster answers there (Connection refused)"),
        ({"address": "127.0.0.1:99999"}, BoundsError, "no cluster answers there"),
        ({"address": "ray://127.0.0.1:9"}, InvalidInputError, "expected HOST:PORT"),
        ({"address": "head"}, InvalidInputError, "expected HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_used(
    options: dict[str, Any], error: type[Exception], says: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    x, y = separable()
    given = {"radii": [0.1], "results": tmp_path / "run.sqlite", "engine": "ray", **options}
    refused(lambda: bounds.evaluate(nn.Identity(), x, y, **given), error, says)
    assert list(tmp_path.iterdir()) == []


def test_an_address_beside_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    x, y = separable()
    refused(
        lambda: bounds.evaluate(nn.Identity(), x, y, radii=[1], engine="ray", address="auto"),
        InvalidInputError,
        "leave the address out",
    )


@pytest.mark.parametrize("raised", [SystemExit(15), ConnectionError("two\nlines")])
def test_whatever_ray_ends_with_is_one_line(
    raised: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    x, y = separable()
    refused(
        lambda: bounds.evaluate(nn.Identity(), x, y, radii=[1], engine="ray", address="local"),
        BoundsError,
        "cannot use the cluster",
        "ray start --head",
    )
