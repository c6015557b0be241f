"""ONNX files and `torch.export` archives."""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
import zipfile
from pathlib import Path

import torch
from google.protobuf.message import DecodeError
from onnx import ModelProto

from bounds import Network, from_export, from_onnx
from tests.fuzzing.damage import damage_bytes, damage_json
from tests.fuzzing.onnx_messages import GRAPH, SMALL, mutate
from tests.support.exported import Residual, export


def use(network: Network) -> None:
    outputs = network(torch.zeros(2, *network.input_shape))
    assert outputs.shape == (2, *network.output_shape)


class OnnxFiles:
    name = "onnx"

    @functools.cache  # noqa: B019  one object lives as long as the process
    def seeds(self) -> list[bytes]:
        return [graph.model().SerializeToString() for graph in (GRAPH, SMALL)]

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.4:
            return damage_bytes(data, dice, donors)
        try:
            model = ModelProto.FromString(data)
            for _ in range(dice.choice((1, 1, 2, 4))):
                mutate(model, dice)
        except (DecodeError, UnicodeDecodeError):  # damaged before
            return damage_bytes(data, dice, donors)
        return bytes(model.SerializeToString())

    def read(self, path: Path) -> None:
        use(from_onnx(path))


class Archives:
    name = "pt2"

    @functools.cache  # noqa: B019
    def seeds(self) -> list[bytes]:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for dynamic in (True, False):
                path = Path(folder) / "model.pt2"
                export(Residual(), torch.randn(2, 1, 4, 4), path, dynamic=dynamic)
                found.append(_lean(path.read_bytes()))
        return found

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.2:
            return damage_bytes(data, dice, donors)
        try:
            members = _members(data)
        except Exception:  # damaged before
            members = _members(dice.choice(donors))
        name = dice.choice([*members, *[n for n in members if n.endswith(".json")] * 4])
        for _ in range(dice.choice((1, 1, 2, 4))):
            match dice.randrange(10):
                case 0:
                    members.pop(name, None)
                case 1:
                    members[dice.choice((name + "x", "a/b", "../" + name, name.upper()))] = b"{}"
                case 2 | 3:
                    members[name] = damage_bytes(members.get(name, b""), dice, donors)
                case _:
                    try:
                        tree = json.loads(members[name])
                    except (KeyError, ValueError):
                        continue
                    members[name] = json.dumps(damage_json(tree, dice)).encode()
        return _zip(members)

    def read(self, path: Path) -> None:
        use(from_export(path))


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _lean(data: bytes) -> bytes:
    """The archive without where in the source each node comes from, which no reader looks at."""
    members = _members(data)
    for name in members:
        if name.endswith("/models/model.json"):
            program = json.loads(members[name])
            for node in program["graph_module"]["graph"]["nodes"]:
                node["metadata"].pop("stack_trace", None)
            members[name] = json.dumps(program).encode()
    return _zip({name: data for name, data in members.items() if "sample_inputs" not in name})
