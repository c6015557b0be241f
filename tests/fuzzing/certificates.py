"""Certificates of a small network, which `bounds.check` reads."""

from __future__ import annotations

import functools
import json
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import bounds
from bounds.solution.certificate_file import KEY, content_digest
from tests.fuzzing.damage import FLOATS, damage_bytes, damage_json

#: The dtypes of a safetensors header.
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "", 1)


@functools.cache
def network() -> bounds.Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    return bounds.from_torch(model.double(), (2,)).detach()


class Certificates:
    name = "safetensors"

    @functools.cache  # noqa: B019  one object lives as long as the process
    def seeds(self) -> list[bytes]:
        found = []
        x = torch.tensor([[0.5, -0.5], [0.0, 1.0]], dtype=torch.float64)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "certificate"
            for norm, method in ((torch.inf, "fixed_slope"), (1, "exact"), (2, "adaptive_slope")):
                ball = bounds.Ball(x, radius=0.3, norm=norm)
                relaxation = bounds.relax(network(), ball, bounds.margins(0, 2))
                bounds.solve(relaxation, method=method).certificate.save(path)
                found.append(path.read_bytes())
        return found

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.3:
            return damage_bytes(data, dice, donors)
        header, numbers = _parts(data) or _parts(dice.choice(donors)) or ({}, b"")
        for _ in range(dice.choice((1, 1, 2, 4))):
            match dice.randrange(5):
                case 0:  # one number
                    code = dice.choice(FLOATS) if dice.random() < 0.5 else dice.gauss(0, 1)
                    at = 8 * dice.randrange(len(numbers) // 8 + 1)
                    numbers = numbers[:at] + struct.pack("<d", code) + numbers[at + 8 :]
                case 1:  # what it states
                    stated = _stated(header)
                    if stated is not None:
                        header["__metadata__"] = {KEY: json.dumps(damage_json(stated, dice))}
                case 2:
                    entry = header.get(dice.choice([*header, ""]))
                    if isinstance(entry, dict) and "dtype" in entry:
                        entry["dtype"] = dice.choice(DTYPES)
                case _:
                    changed = damage_json(header, dice)
                    header = changed if isinstance(changed, dict) else header
        if dice.random() < 0.7:
            _seal(header, numbers)
        text = json.dumps(header).encode()
        length = len(text) if dice.random() < 0.95 else dice.choice((0, 2**63, 2**64 - 1, 10**8))
        return length.to_bytes(8, "little") + text + numbers

    def read(self, path: Path) -> None:
        result = bounds.check(path, network())
        # What is accepted holds for the network at points of the input set that the file states.
        if result.accepted and not result.trusted:
            header, numbers = _parts(path.read_bytes()) or ({}, b"")
            arrays = _arrays(header, numbers)
            points = torch.from_numpy(arrays["x"].copy())
            values = network()(points.flatten(0, 1)).reshape(*points.shape[:2], 2).numpy()
            rows = np.einsum("bso,bpo->bsp", arrays["C"], values) + arrays["d"][:, :, None]
            assert (result.lower <= rows.min(2) + 1e-9 * (1 + np.abs(rows).max(2))).all()


def _parts(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """The header, and the numbers after it; None where it is damaged already."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return None
    return (header, data[8 + length :]) if isinstance(header, dict) else None


def _stated(header: dict[str, Any]) -> Any:
    try:
        return json.loads(header["__metadata__"][KEY])
    except (KeyError, TypeError, ValueError):
        return None


def _arrays(header: dict[str, Any], numbers: bytes) -> dict[str, np.ndarray]:
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            found[name] = np.frombuffer(numbers[first:last], "<f8").reshape(entry["shape"])
    return found


def _seal(header: dict[str, Any], numbers: bytes) -> None:
    """Give the header the digest of its contents, where it has any."""
    stated = _stated(header)
    try:
        stated["digest"] = content_digest(stated, _arrays(header, numbers))
        header["__metadata__"] = {KEY: json.dumps(stated)}
    except Exception:  # no header that a digest could be of
        return
