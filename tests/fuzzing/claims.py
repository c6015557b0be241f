"""Files of claimed bounds, which `bounds.Claims.load` reads and `bounds.audit` judges."""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import bounds
from tests.fuzzing.damage import INTEGERS, VALUES, damage_bytes, damage_json, damage_list
from tests.fuzzing.inputs import damaged_array

#: What numbers of JSON may be, as text that Python's own writer does not make.
NUMBERS = ("1e999", "-1e999", "1e-999", "NaN", "Infinity", "-Infinity", "-0", "9" * 400, "1_0")
#: Bytes of a member that is packed a thousand times smaller.
BOMB = 2**26
#: How often a case is large, which takes long.
RARELY = 0.002


@functools.cache
def network() -> bounds.Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    return bounds.from_torch(model.double(), (2,)).detach()


@functools.cache
def box() -> bounds.Box:
    x = torch.zeros(2, 2, dtype=torch.float64)
    return bounds.Box(x - 0.3, x + 0.3)


@functools.cache
def arrays() -> tuple[dict[str, np.ndarray], ...]:
    """What valid files hold."""
    found = bounds.output_bounds(network(), box())
    lower, upper = found.lower.numpy(), found.upper.numpy()
    [relu] = (network().nodes[index].name for index in network().relus)
    ends = {"output.lower": lower, "output.upper": np.full_like(upper, np.inf)}
    wide = {f"{relu}.{end}": np.full((2, 3), to) for end, to in (("lower", -9.0), ("upper", 9.0))}
    rows = {"rows.C": np.array([[1.0, -1.0]]), "rows.d": np.ones(1), "rows.lower": lower[:, :1] - 9}
    return ends, wide, rows, {**ends, **wide, **rows}


class _Claims:
    """What both kinds of files have in common."""

    def read(self, path: Path) -> None:
        claims = bounds.Claims.load(path)
        if sum(end.numel() for both in claims.ends.values() for end in both) > 1000:
            return
        audit = bounds.audit(network(), box(), claims, optima=False)
        for both in audit.ends.values():
            for end in both:
                assert not bool(((end.judgement == 1) & end.claimed.isnan()).any())


class ClaimArchives(_Claims):
    name = "npz"

    @functools.cache  # noqa: B019  one object lives as long as the process
    def seeds(self) -> list[bytes]:
        found = []
        for number, each in enumerate(arrays()):
            stream = io.BytesIO()
            (np.savez_compressed if number % 2 else np.savez)(stream, **each)  # type: ignore[operator]
            found.append(stream.getvalue())
        return found

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.3:
            return damage_bytes(data, dice, donors)
        members = _members(data) or _members(dice.choice(donors))
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.randrange(len(members)) if members else 0
            name, content = members[at] if members else ("output.lower.npy", b"")
            match dice.randrange(5):
                case 0:
                    content = damage_bytes(content, dice, donors)
                case 1:
                    content = damaged_array(dice)
                case 2:
                    names = ["rows.C", "rows.d", "rows.upper", "output.lower", "0.lower", "x", ""]
                    name = dice.choice(names) + dice.choice((".npy", ".npy", "", "/../x.npy"))
                case 3:
                    damage_list(members, dice, [*members, ("output.upper.npy", content)])
                    continue
                case _:
                    number = np.array(dice.choice((0.0, 1e308, -1.0, np.nan, np.inf)))
                    content = content[:-8] + number.tobytes()
            members[at : at + 1] = [(name, content)]
        compression = zipfile.ZIP_DEFLATED if dice.random() < 0.7 else zipfile.ZIP_STORED
        if dice.random() < RARELY:
            compression = zipfile.ZIP_DEFLATED
            header = f"{{'descr': '|i1', 'fortran_order': False, 'shape': ({BOMB - 128},)}}"
            head = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(118).encode()
            members.append(("output.lower.npy", head + bytes(BOMB - 128)))
        return _zipped(members, compression)


class ClaimObjects(_Claims):
    name = "json"

    @functools.cache  # noqa: B019  one object lives as long as the process
    def seeds(self) -> list[bytes]:
        found = []
        for each in arrays():
            nested: dict[str, dict[str, Any]] = {}
            for key, numbers in each.items():
                name, _, end = key.rpartition(".")
                nested.setdefault(name, {})[end] = numbers.tolist()
            found.append(json.dumps(nested).encode())
        return found

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.3:
            return damage_bytes(data, dice, donors)
        try:
            root = json.loads(data)
        except (ValueError, RecursionError):
            root = json.loads(dice.choice(donors))
        for _ in range(dice.choice((1, 1, 2, 4))):
            root = damage_json(root, dice) if dice.random() < 0.7 else _numbers_changed(root, dice)
        text = json.dumps(root)
        if dice.random() < 0.2:  # what no writer makes
            text = text.replace('"@"', dice.choice(NUMBERS))
        if dice.random() < 0.02:
            depth = dice.choice((3, 70, 100_000))
            text = text.replace("[", "[" * depth, 1).replace("]", "]" * depth, 1)
        if dice.random() < 0.05:
            text = text[:1] + text[1:-1] + "," + text[1:]  # each name twice
        return text.encode()


def _numbers_changed(root: Any, dice: random.Random) -> Any:
    """Another tree of which one number is another, or stands for text that `NUMBERS` has."""
    root = copy.deepcopy(root)
    lists = [root]
    for holder in lists:
        if isinstance(holder, dict | list):
            lists += holder.values() if isinstance(holder, dict) else holder
    numbers = [each for each in lists if isinstance(each, list)]
    if numbers:
        damage_list(dice.choice(numbers), dice, [*INTEGERS, *VALUES, "@", 0.5, 1e300])
    return root


def _members(data: bytes) -> list[tuple[str, bytes]]:
    """None where it is damaged already."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(each.filename, archive.read(each)) for each in archive.infolist()]
    except Exception:
        return []


def _zipped(members: list[tuple[str, bytes]], compression: int) -> bytes:
    stream = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(stream, "w", compression) as file,
    ):
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name or "x"), content, compress_type=compression)
    return stream.getvalue()
