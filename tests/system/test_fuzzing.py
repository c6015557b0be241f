"""Damaged files for every reader, a few hundred each; and those that once failed, again.

Many more: `pytest -m fuzz`, or `python -m tests.fuzzing KIND --cases N --seed S`.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bounds import InvalidInputError
from tests.fuzzing import damage, driver
from tests.fuzzing.targets import TARGETS

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.9", reason="older torch.export.save writes the layout that is refused"
)
CASES = 300


@pytest.mark.parametrize("kind", TARGETS)
def test_what_once_failed(kind: str, tmp_path: Path) -> None:
    found = {name: what for name, what in driver.replay(TARGETS[kind], tmp_path) if what}
    assert not found


@pytest.mark.parametrize("kind", TARGETS)
def test_damage_is_refused_or_harmless(kind: str, tmp_path: Path) -> None:
    report = driver.run(TARGETS[kind], cases=CASES, seed=0, folder=tmp_path)
    assert not report.failures
    assert report.cases == CASES
    # Damage that always ends at the first check would say little.
    assert report.outcomes["refused"] > CASES / 4
    assert report.outcomes["read"] > CASES / 100
    assert report.pool > 10


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", TARGETS)
def test_much_damage_is_refused_or_harmless(kind: str, tmp_path: Path) -> None:
    assert not driver.run(TARGETS[kind], cases=100_000, seed=1, folder=tmp_path).failures


# -- the driver sees what it is there for


class Broken:
    name = "broken"

    def __init__(self, how: Callable[[], None]) -> None:
        self.how, self.cases = how, 0

    def seeds(self) -> list[bytes]:
        return [b"valid"]

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        self.cases += 1
        return b"damaged %d" % self.cases

    def read(self, path: Path) -> None:
        if path.read_bytes() == b"damaged 2":
            self.how()


def leak() -> None:
    """More than the process ever had."""
    torch.ones(driver._peak() - driver._resident() + 2**27, dtype=torch.uint8)


def fail() -> None:
    raise KeyError("what")


def refuse() -> None:
    raise InvalidInputError("on two\nlines")


def warn() -> None:
    warnings.warn("it is odd", stacklevel=1)


def exhaust() -> None:
    raise MemoryError


def wait() -> None:
    try:
        time.sleep(5)
    except Exception:  # as readers have it
        raise InvalidInputError("it is damaged.") from None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (fail, "KeyError"),
        (refuse, "several lines"),
        (warn, "it is odd"),
        (exhaust, "memory"),
        (wait, "it takes over"),
        (leak, "MiB"),
    ],
)
def test_failures_are_seen_and_kept(
    how: Callable[[], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine everything but the waiting takes its time, too.
    monkeypatch.setattr(driver, "SECONDS", 0.2 if how is wait else 60.0)
    monkeypatch.setattr(driver, "BYTES", 2**26)
    save = tmp_path / "corpus"
    report = driver.run(Broken(how), cases=3, seed=0, folder=tmp_path, save_in=save)
    [(name, failure)] = report.failures.items()
    assert words in failure
    assert [path.name for path in save.iterdir()] == [name]
    assert (save / name).read_bytes() == b"damaged 2"


def test_a_seed_gives_the_same_cases() -> None:
    for target in TARGETS.values():
        seeds = target.seeds()
        first, again = (
            [target.mutate(seeds[0], dice, seeds) for _ in range(20)]
            for dice in (random.Random(5), random.Random(5))
        )
        assert first == again
        assert len(set(first)) > 10
        assert all(len(data) <= 4 * damage.MAX_BYTES for data in first)
