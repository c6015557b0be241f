"""Hypothesis profiles, and where the real models and data are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before torch is imported: threads that spin while they wait slow a busy machine down tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import HealthCheck, Phase, settings

from bounds import cli

Run = Callable[..., tuple[int, str, str]]

CHECKOUT = Path(__file__).resolve().parent.parent
ON_CI = bool(os.environ.get("CI"))

settings.register_profile(
    "dev",
    deadline=None,
    print_blob=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
# Every mutant of the code runs them: no time for shrinking what fails.
settings.register_profile(
    "mutation",
    settings.get_profile("ci"),
    max_examples=5,
    phases=(Phase.explicit, Phase.generate),
    database=None,
)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if ON_CI else "dev"))


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
