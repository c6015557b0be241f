"""Random damage to bytes, to JSON and to lists, which knows of no format."""

from __future__ import annotations

import copy
import random
import struct
from typing import Any

#: Where sizes, counts and offsets break: around the powers of two that types end at.
INTEGERS = sorted(
    {
        sign * 2**power + by
        for power in (0, 1, 7, 8, 15, 16, 31, 32, 53, 62, 63)
        for sign in (-1, 1)
        for by in (-1, 0, 1)
    }
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1e-308, 1e308, -1e308, 1e16, float("nan"))
FLOATS = (*FLOATS, float("inf"), float("-inf"))
#: Values of JSON that are not what was there.
VALUES: tuple[Any, ...] = (None, True, False, "", "\0", "../x", "é" * 200, [], {}, [[]], -1, 0.5)
#: No case grows beyond this.
MAX_BYTES = 2**17


def damage_bytes(data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
    """One to four changes. donors: files that pieces may come from."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        start = dice.randrange(len(damaged) + 1)
        stop = min(len(damaged), start + dice.choice((1, 2, 4, 8, 32, 256)))
        donor = dice.choice(donors) or b"\0"
        match dice.randrange(9):
            case 0 if damaged:
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
            case 1:
                damaged[start:stop] = dice.choice((b"\0", b"\xff", b" ", b"9")) * (stop - start)
            case 2:
                damaged[start:stop] = dice.randbytes(stop - start)
            case 3:
                del damaged[start:stop]
            case 4:
                damaged[start:start] = damaged[start:stop] * dice.choice((1, 2, 16))
            case 5:
                del damaged[start:]
            case 6:
                at = dice.randrange(len(donor))
                damaged[start:stop] = donor[at : at + dice.choice((4, 32, 512))]
            case 7:
                code = dice.choice(("<i", "<q", ">i", "<H"))
                size = 8 * struct.calcsize(code)
                whole = dice.choice(INTEGERS) % 2**size
                packed = whole.to_bytes(size // 8, "big" if code[0] == ">" else "little")
                damaged[start : start + len(packed)] = packed
            case _:
                damaged[start:start] = str(dice.choice(INTEGERS)).encode()
    return bytes(damaged[:MAX_BYTES])


def damage_list(values: list[Any], dice: random.Random, others: list[Any]) -> None:
    """Drop, double, move or replace one entry, in place; others: what it may be replaced by."""
    at = dice.randrange(len(values)) if values else 0
    match dice.randrange(5):
        case 0 if values:
            del values[at]
        case 1 if values:
            values.insert(dice.randrange(len(values)), copy.deepcopy(values[at]))
        case 2 if values:
            values.insert(dice.randrange(len(values)), values.pop(at))
        case 3 if values:
            values[at] = dice.choice(others)
        case _:
            values.insert(at, dice.choice(others))


def damage_json(root: Any, dice: random.Random) -> Any:
    """Another tree in which one value, anywhere, is gone, doubled, or something else."""
    root = copy.deepcopy(root)
    places = [(None, None), *_places(root)]
    holder, key = dice.choice(places)
    if holder is None:
        return root if dice.random() < 0.9 else dice.choice(VALUES)
    old, (other, other_key) = holder[key], dice.choice(places[1:])
    match dice.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = copy.deepcopy(other[other_key])
        case 2:
            holder[key] = dice.choice(VALUES)
        case 3 if isinstance(holder, list):
            damage_list(holder, dice, [old, *VALUES])
        case 4 if isinstance(holder, dict):
            holder[dice.choice(("", "as_int", "name", str(key) + "x"))] = holder.pop(key)
        case _:
            holder[key] = dice.choice(INTEGERS) if isinstance(old, int) else dice.choice(VALUES)
    return root


def _places(root: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    pending = [root]
    while pending:
        holder = pending.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            pending += [holder[key] for key in keys]
    return found
