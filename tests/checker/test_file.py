"""Files that are no certificates are refused, in one sentence that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import bounds
from bounds.solution.certificate_file import KEY
from tests.support.certificates import Arrays, Edit, Statement, contents, edit, reasons, save
from tests.support.referee import random_relaxation
from tests.support.refusals import refused

RELAXATION = random_relaxation(3, 6, 6, 2)
NETWORK = RELAXATION.network


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checker") / "certificate"
    save(path, RELAXATION)
    return path


def stated(name: str, value: object) -> Edit:
    return lambda statement, arrays: statement.update({name: value})


def unstated(name: str) -> Edit:
    return lambda statement, arrays: statement.pop(name)


def tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edited(statement: Statement, arrays: Arrays) -> None:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))

    return edited


def number(name: str, value: float) -> Edit:
    def edited(statement: Statement, arrays: Arrays) -> None:
        arrays[name].flat[0] = value

    return edited


def dropped(name: str) -> Edit:
    return lambda statement, arrays: arrays.pop(name)


SEALED: dict[str, tuple[Edit, str]] = {
    "format": (stated("format", 2), "in format 2, and this version of bounds reads format 1"),
    "text format": (stated("format", "1"), "without a format"),
    "true format": (stated("format", True), "without a format"),
    "no format": (unstated("format"), "without a format"),
    "no method": (unstated("method"), "lacks entry 'method'"),
    "more": (stated("more", 1), "has an unknown entry 'more'"),
    "set": (stated("input_set", "linf"), "has 'input_set' 'linf', expected one of"),
    "a list of sets": (stated("input_set", ["box"]), "has 'input_set' ['box']"),
    "intermediate": (stated("intermediate", "guessed"), "has 'intermediate' 'guessed'"),
    "slope": (stated("slope", "steep"), "has slope 'steep' with intermediate 'backward'"),
    "no slope": (stated("slope", None), "has slope None with intermediate 'backward'"),
    "network": (stated("network", 7), "has 'network' as int, expected text"),
    "versions": (stated("versions", {"bounds": 1}), "versions that are not text"),
    "claims dropped": (dropped("lower"), "lacks tensor 'lower'"),
    "C dropped": (dropped("C"), "no tensor 'C'"),
    "multipliers dropped": (dropped("multipliers.1"), "lacks tensor 'multipliers.1'"),
    "a tensor more": (
        lambda statement, arrays: arrays.update(more=np.zeros(1)),
        "has an unknown tensor 'more'",
    ),
    "a ReLU more": (
        lambda statement, arrays: arrays.update({"z.2": arrays["z.1"]}),
        "has an unknown tensor 'z.2'",
    ),
    "a ball's": (stated("input_set", "l2"), "lacks tensor 'input.centre'"),
    "flat": (tensor("x", np.ravel), "has 'x' of shape"),
    "an input less": (tensor("d", lambda d: d[:1]), "has 'd' of shape (1, 1), expected (2, 1)"),
    "no inputs": (tensor("C", lambda C: C[:0]), "at least one input"),
    "a neuron less": (tensor("z.0", lambda z: z[:-1]), "has 'z.0' of shape"),
    "transposed": (tensor("multipliers.0", np.transpose), "has 'multipliers.0' of shape"),
    "nan": (number("x", np.nan), "has nan in 'x'"),
    "nan claim": (number("lower", np.nan), "has nan in 'lower'"),
    "inf": (number("relu.0.upper", np.inf), "has inf in 'relu.0.upper'"),
    "upper of -inf": (number("upper", -np.inf), "has -inf in 'upper'"),
    "lower of inf": (number("lower", np.inf), "has inf in 'lower'"),
    "float32": (tensor("x", lambda x: x.astype(np.float32)), "has 'x' as F32, expected F64"),
}


@pytest.mark.parametrize("case", SEALED)
def test_what_is_not_in_the_format(path: Path, case: str) -> None:
    change, reason = SEALED[case]
    copy = edit(path, change)
    refused(lambda: bounds.check(copy, NETWORK), bounds.InvalidInputError, repr(str(copy)), reason)


def test_what_is_no_certificate_at_all(path: Path, tmp_path: Path) -> None:
    statement, arrays = contents(path)
    file = tmp_path / "file"

    def written(data: bytes) -> Callable[[], object]:
        def act() -> object:
            file.write_bytes(data)
            return bounds.check(file, NETWORK)

        return act

    def saved(metadata: dict[str, str] | None) -> Callable[[], object]:
        def act() -> object:
            save_file(arrays, file, metadata=metadata)
            return bounds.check(file, NETWORK)

        return act

    text = json.dumps(statement)
    whole = path.read_bytes()
    huge = json.dumps({"C": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 8]}})
    cases: dict[str, tuple[Callable[[], object], str]] = {
        "nothing": (written(b""), "is not a safetensors file"),
        "truncated": (written(whole[:-8]), "is not a safetensors file"),
        "longer": (written(whole + bytes(8)), "is not a safetensors file"),
        "header": (written(whole[:100]), "is not a safetensors file"),
        "huge header": (written(b"\xff" * 64), "is not a safetensors file"),
        "huge tensor": (
            written(len(huge).to_bytes(8, "little") + huge.encode() + bytes(8)),
            "is not a safetensors file",
        ),
        "a pickle": (written(b"\x80\x04\x95" + bytes(40)), "is not a safetensors file"),
        "no metadata": (saved(None), "metadata other than one entry"),
        "other metadata": (saved({"format": "pt"}), "metadata other than one entry"),
        "more metadata": (saved({KEY: text, "format": "pt"}), "metadata other than one entry"),
        "no JSON": (saved({KEY: text[:-1]}), "a statement that is not JSON"),
        "deep JSON": (saved({KEY: "[" * 100_000}), "a statement that is not JSON"),
        "long number": (saved({KEY: '{"format": ' + "1" * 5000 + "}"}), "not JSON"),
        "a list": (saved({KEY: "[]"}), "a statement without a format"),
        "missing": (lambda: bounds.check(tmp_path / "no", NETWORK), "not a regular file"),
        "a folder": (lambda: bounds.check(tmp_path, NETWORK), "not a regular file"),
        "no path": (lambda: bounds.check(7, NETWORK), "got int"),  # type: ignore[arg-type]
    }
    for act, reason in cases.values():
        refused(act, bounds.InvalidInputError, reason)


@given(data=st.data())
def test_a_damaged_byte_never_passes(path: Path, data: st.DataObject) -> None:
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    damaged = path.with_name("damaged")
    damaged.write_bytes(whole)
    try:
        check = bounds.check(damaged, NETWORK)
    except bounds.InvalidInputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert not check.accepted
        assert reasons(check)
