"""Archives that are damaged, hostile or something else are refused, and nothing is unpickled."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bounds import BoundsError, InvalidInputError, ModelFileError, from_export
from bounds.read.export import archive as export_archive
from tests.support.exported import Residual, export

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.9", reason="older torch.export.save writes the layout that is refused"
)

Change = Callable[[Any], Any]
Changes = dict[str, Change | bytes | None]
WEIGHTS = "data/weights/model_weights_config.json"
GRAPH = "models/model.json"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid archive, to be damaged."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("archive") / "model.pt2"
    return export(Residual(), torch.randn(2, 1, 4, 4), path, dynamic=True)


def refused(path: Any, *fragments: str) -> None:
    """Reading `path` raises ModelFileError, in one line that names it and holds every fragment."""
    with pytest.raises(ModelFileError) as caught:
        from_export(path)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in (repr(str(path)), *fragments):
        assert fragment in message, f"{fragment!r} is not in {message!r}"


def rewrite(source: Path, target: Path, changes: Changes) -> Path:
    """`source` with members replaced (bytes), their JSON edited (a function) or removed (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data: bytes | None = old.read(name)
            change = changes.get(name.split("/", 1)[1], data)
            if callable(change):
                parsed = json.loads(data or b"")
                change(parsed)
                change = json.dumps(parsed).encode()
            if change is not None:
                new.writestr(name, change)
    return target


def weight(**fields: Any) -> Changes:
    """The change of fc.weight's entry, whose `tensor_meta` takes the fields that it has."""

    def change(config: Any) -> None:
        entry = config["config"]["fc.weight"]
        for key, value in fields.items():
            (entry["tensor_meta"] if key in entry["tensor_meta"] else entry)[key] = value

    return {WEIGHTS: change}


def ints(*values: int) -> list[dict[str, int]]:
    return [{"as_int": value} for value in values]


def graph(change: Change) -> Changes:
    return {GRAPH: lambda program: change(program["graph_module"]["graph"])}


DAMAGED: dict[str, tuple[Changes, str]] = {
    "no graph": ({GRAPH: None}, "0 members models/*.json"),
    "not JSON": ({GRAPH: b"{"}, "is not JSON"),
    "deep JSON": ({GRAPH: b"[" * 100_000}, "is not JSON"),
    "other JSON": ({GRAPH: b"[1]"}, "damaged or inconsistent"),
    "schema": ({GRAPH: lambda p: p["schema_version"].update(major=9)}, "version 9, expected 8"),
    "byte order": ({"byteorder": b"big"}, "byte order 'big'"),
    "no weights": ({WEIGHTS: None}, "model_weights_config.json' is missing"),
    "no weight": ({WEIGHTS: lambda c: c["config"].pop("fc.weight")}, "'fc.weight' is missing"),
    "no storage": (weight(path_name="weight_99"), "weight_99' is missing"),
    "escape": (weight(path_name="../../models/model.json"), "expected the name of a file"),
    "pickled": (weight(use_pickle=True), "stored as a pickle"),
    "complex": (weight(dtype=10), "dtype number 10"),
    "sparse": (weight(layout=1), "layout number 1"),
    "other dtype": (weight(dtype=4), "another shape or dtype for 'p_fc_weight'"),
    "other shape": (weight(sizes=ints(3, 8)), "another shape or dtype for 'p_fc_weight'"),
    "too large": (weight(sizes=ints(2**20, 2**20)), "but its file holds 48 numbers"),
    "overlapping": (weight(sizes=ints(9, 9), strides=ints(0, 1)), "file holds 48 numbers"),
    "stride": (weight(strides=ints(17, 1)), "but its file holds 48 numbers"),
    "offset": (weight(storage_offset=ints(1)[0]), "but its file holds 48 numbers"),
    "negative": (weight(strides=ints(-16, 1)), "expected integers of at least 0"),
    "symbolic": (weight(sizes=[{"as_expr": {}}] * 2), "expected integers of at least 1"),
    "order": (graph(lambda g: g["nodes"].reverse()), "damaged or inconsistent (KeyError"),
    "shape": (graph(lambda g: g["tensor_values"]["add"].update(sizes=ints(2, 4, 4, 5))), "'add'"),
    "huge": (graph(lambda g: g["tensor_values"]["x"].update(sizes=ints(2, 2**30))), "1073741824"),
    "operator": (graph(lambda g: g["nodes"][1].update(target="a\nb")), "called 'a\\nb'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_archive_is_refused(case: str, archive: Path, tmp_path: Path) -> None:
    changes, message = DAMAGED[case]
    path = rewrite(archive, tmp_path / "damaged.pt2", changes)
    refused(path, message)


def test_untouched_copy_is_read(archive: Path, tmp_path: Path) -> None:
    x = torch.randn(3, 1, 4, 4)
    copy = from_export(rewrite(archive, tmp_path / "copy.pt2", {}))
    assert torch.equal(copy(x), from_export(archive)(x))


# -- other files -----------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pt2", "No such file")
    refused(tmp_path, "is a directory")
    refused("a\0b", "null")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    with pytest.raises(InvalidInputError, match="got a BytesIO, expected the path"):
        from_export(io.BytesIO())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with b''"),
        (b"hello there", "begins with b'hell'"),
        (b"\x08\x07\x12\x07pytorch", "expected a zip archive"),
        (b"PK\x03\x04", "cut short or damaged"),
    ],
)
def test_what_is_no_zip_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    refused(path, message, "torch.export.save")


@pytest.mark.parametrize(
    "name",
    ["serialized_exported_program.json", "m/data/weights/model.pt", "serialized_state_dict.pt"],
)
def test_older_layout_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, b"{}")
        file.writestr("m/models/model.json", b"{}")
    refused(path, "torch 2.8 or older", "torch 2.9 or later")


def test_compressed_or_repeated_members_are_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/models/model.json", b" " * 10**6)
    refused(path, "compressed or encrypted")
    path.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(file.namelist()[0], b"")
    refused(path, "twice")


def test_checksums_are_compared(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        name = next(name for name in file.namelist() if name.endswith("weights/weight_6"))
        numbers = file.read(name)
    content = archive.read_bytes()
    assert content.count(numbers) == 1
    path = tmp_path / "m.pt2"
    path.write_bytes(content.replace(numbers, numbers[::-1]))
    refused(path, "weight_6' is damaged (Bad CRC-32")


def test_sizes_are_limited(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_archive, "MAX_JSON_BYTES", 1000)
    refused(archive, "expected at most 1000")
    monkeypatch.setattr(export_archive, "MAX_BYTES", 2000)
    refused(archive, "expected at most 2000")


# -- pickles ---------------------------------------------------------------------------------------


class Payload:
    """A pickle that creates a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_no_pickle_is_executed(archive: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    payload = pickle.dumps(Payload(mark))
    pickle.loads(payload).close()
    assert mark.exists(), "the payload is harmless, so this test would show nothing"
    mark.unlink()

    inside = tmp_path / "inside.pt2"
    entry = weight(use_pickle=True, path_name="weight_6")
    rewrite(archive, inside, {**entry, "data/weights/weight_6": payload})
    refused(inside, "stored as a pickle, which can run code")

    for kind, old in (("zip.pth", False), ("legacy.pth", True)):
        torch.save(Payload(mark), tmp_path / kind, _use_new_zipfile_serialization=not old)
        refused(tmp_path / kind, "pickle checkpoint", "torch.export.save(torch.export.export(model")
    (tmp_path / "bare.pt2").write_bytes(payload)
    refused(tmp_path / "bare.pt2", "pickle checkpoint")

    # The example inputs of every archive are a pickle, which is left alone.
    changed = rewrite(archive, tmp_path / "a.pt2", {"data/sample_inputs/model.pt": payload})
    from_export(changed)
    assert not mark.exists()


# -- any bytes -------------------------------------------------------------------------------------


def test_any_damage_is_refused_or_harmless(archive: Path, tmp_path: Path) -> None:
    """Cut short or with bits flipped, it is refused, or the flip was in what is not used."""
    valid, dice = archive.read_bytes(), random.Random(0)
    x = torch.randn(2, 1, 4, 4)
    expected = from_export(archive)(x)
    path = tmp_path / "m.pt2"
    outcomes = {"refused": 0, "same": 0}
    for _ in range(400):
        damaged = bytearray(valid)
        if dice.random() < 0.3:
            del damaged[dice.randrange(len(valid)) :]
        for _ in range(dice.choice((1, 3)) if damaged else 0):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            network = from_export(path)
        except BoundsError:
            outcomes["refused"] += 1
        else:
            assert torch.equal(network(x), expected)
            outcomes["same"] += 1
    assert outcomes["refused"] > 300
