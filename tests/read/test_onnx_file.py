"""ONNX files that are damaged, hostile or something else are refused, and read no other file."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bounds import InvalidInputError, ModelFileError, from_onnx
from bounds.read.onnx import file as onnx_file
from tests.fuzzing.onnx_messages import GRAPH
from tests.support.onnx_graphs import run, write
from tests.support.refusals import refused


def refused_path(path: Any, *fragments: str) -> None:
    refused(lambda: from_onnx(path), ModelFileError, repr(str(path)), *fragments)


# -- other files -----------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused_path(tmp_path / "missing.onnx", "No such file", "the path of an .onnx file")
    refused_path(tmp_path, "is a directory")
    refused_path("a\0b", "null")
    os.mkfifo(tmp_path / "pipe")
    refused_path(tmp_path / "pipe", "not a regular file")
    with pytest.raises(InvalidInputError, match="got a BytesIO, expected the path"):
        from_onnx(io.BytesIO())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no graph"),
        (b"hello there", "begins with b'hell' and is no ONNX file"),
        (b"PK\x03\x04", "begins with b'PK"),
        (pickle.dumps([1.0]), "begins with"),
        (b"\x3a\xff\xff\xff\xff\x0f", "begins with"),
        (b"\x3a\x02" * 10**5, "begins with"),
    ],
)
def test_what_is_no_onnx_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused_path(path, message)


def test_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(GRAPH.model(), tmp_path)
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 500)
    refused_path(path, "bytes, expected at most 500", "external data")


# -- weights in files of their own -----------------------------------------------------------------


def external(folder: Path, *, together: bool = True) -> Path:
    onnx.save_model(
        GRAPH.model(),
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=together,
        location="weights.bin" if together else None,
        size_threshold=0,
    )
    return folder / "model.onnx"


@pytest.mark.parametrize("together", [False, True])
def test_external_data(together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path, together=together)
    assert len([*tmp_path.iterdir()]) == (2 if together else 13)
    x = torch.randn(3, 2, 4)
    expected = run(GRAPH.model(), x.numpy())[0]
    np.testing.assert_allclose(from_onnx(path)(x), expected, rtol=0, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(from_onnx("model.onnx")(x), expected, rtol=0, atol=1e-6)


def redirect(path: Path, **entries: str) -> Path:
    """The model with other entries of external data for its first weight."""
    model = onnx.load(path, load_external_data=False)
    stored = model.graph.initializer[0].external_data
    found = {entry.key: entry.value for entry in stored} | entries
    del stored[:]
    for key, value in found.items():
        stored.add(key=key, value=value)
    return write(model, path.parent)


EXTERNAL: dict[str, tuple[dict[str, str], str]] = {
    "absolute": ({"location": "/etc/passwd"}, "'/etc/passwd', expected a file in the model's own"),
    "above": ({"location": "../secret.bin"}, "'../secret.bin', expected a file in the model's own"),
    "around": ({"location": "in/../../secret.bin"}, "expected a file in the model's own"),
    "inside and out": ({"location": "in/../weights.bin"}, "expected a file in the model's own"),
    "link": ({"location": "link.bin"}, "'link.bin', expected a file in the model's own"),
    "linked folder": ({"location": "up/secret.bin"}, "expected a file in the model's own"),
    "nothing": ({"location": ""}, "'', expected a file in the model's own"),
    "the folder": ({"location": "."}, "'.', expected a file in the model's own"),
    "null": ({"location": "a\0b"}, "expected a file in the model's own"),
    "a folder": ({"location": "in"}, "is a directory"),
    "missing": ({"location": "none.bin"}, "No such file"),
    "far": ({"offset": "99999"}, "needs 96 bytes of 'weights.bin'"),
    "at the end": ({"offset": "500"}, "needs 96 bytes of 'weights.bin'"),
    "short": ({"length": "95"}, "needs 96 bytes of 'weights.bin', of which 95"),
    "negative": ({"offset": "-1"}, "expected integers"),
    "words": ({"length": "all"}, "expected integers"),
    "digits": ({"offset": "9" * 5000}, "expected integers"),
    "other digits": ({"offset": "²"}, "expected integers"),
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(2000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    entries, message = EXTERNAL[name]
    refused_path(redirect(external(folder), **entries), message)


def test_weights_cannot_be_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file can name one large region of another many times."""
    path = external(tmp_path)
    monkeypatch.setattr(onnx_file, "MAX_CONSTANTS", 30)
    refused_path(path, "more than 30 numbers")
