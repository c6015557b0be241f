"""Threads, Hypothesis profiles and the corpus of drawn examples, and where the real models are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before torch is imported, and for the processes that tests start: threads that spin while they
# wait slow a busy machine down tenfold, and the workers of pytest-xdist share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", threads)

import pytest
from hypothesis import HealthCheck, Phase, is_hypothesis_test, settings
from hypothesis.internal.conjecture import providers

from bounds import cli
from tests.soak import corpus

Run = Callable[..., tuple[int, str, str]]

CHECKOUT = Path(__file__).resolve().parent.parent
ON_CI = bool(os.environ.get("CI"))

# Hypothesis mixes in numbers from the source of whichever modules are loaded by then, so that draws
# would change with the order of the tests and with every edit.
providers._get_local_constants = providers.Constants

# The same examples in every run; `make soak` draws others.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    print_blob=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
# Every mutant of the code runs them: no time for shrinking what fails.
settings.register_profile(
    "mutation",
    settings.get_profile("default"),
    max_examples=5,
    phases=(Phase.explicit, Phase.generate),
)
# A corpus that still fails would end a test before anything is drawn.
settings.register_profile(
    "soak",
    settings.get_profile("default"),
    derandomize=False,
    database=None,
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "1000")),
    phases=(Phase.generate, Phase.target, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    drawn = [item for item in items if is_hypothesis_test(getattr(item, "function", None))]
    for test, module in {item.function: item.module for item in drawn}.items():  # type: ignore[attr-defined]
        corpus.attach(test, module)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data: $BOUNDS_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("BOUNDS_DATA")
    beside = CHECKOUT.parent / "shared"
    folder = Path(named) if named else beside / "data"
    if not folder.is_dir():
        if named or (ON_CI and beside.is_dir()):
            pytest.fail(f"{folder} is not a folder, and these tests have to run here")
        pytest.skip(f"no real models: {folder} is missing; set BOUNDS_DATA to where they are")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line; its exit status, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def main(*arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's own refusals
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return main
