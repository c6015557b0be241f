"""The .npy file of inputs that the command line takes."""

from __future__ import annotations

import argparse
import ast
import functools
import io
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bounds import Network, from_torch
from bounds.cli.problem import load_ball
from tests.fuzzing.damage import INTEGERS, damage_bytes, damage_list

DTYPES = ("<f4", "<f8", ">f8", "<f2", "<f16", "<i8", "<c8", "|O", "|V8", "<U3", "|b1", "<M8[s]")
DTYPES = (*DTYPES, "", "f", "<f999", "|V0", "O,O", "(3,)f4", "<f8" * 50)


@functools.cache
def network() -> Network:
    torch.manual_seed(0)
    return from_torch(nn.Sequential(nn.Linear(4, 2)).double(), (4,))


class Inputs:
    name = "npy"

    @functools.cache  # noqa: B019  one object lives as long as the process
    def seeds(self) -> list[bytes]:
        arrays = [np.zeros(4, np.float32), np.ones((3, 4)), np.asfortranarray(np.eye(4))]
        return [_saved(array) for array in arrays]

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.5:
            return damage_bytes(data, dice, donors)
        return damaged_array(dice)

    def read(self, path: Path) -> None:
        options = argparse.Namespace(
            model="model.onnx", input=str(path), radius=0.1, clip=None, norm=2.0, label=None
        )
        options.device, options.dtype = "cpu", "float64"
        ball, labels = load_ball(options, network())
        assert len(ball.x) == len(labels)


def damaged_array(dice: random.Random) -> bytes:
    """An .npy file whose header is well formed, but for other numbers than there are."""
    shape = [4] if dice.random() < 0.5 else [2, 4]
    for _ in range(dice.randrange(3)):
        damage_list(shape, dice, list(INTEGERS))
    header = {"descr": "<f8", "fortran_order": dice.random() < 0.5, "shape": tuple(shape)}
    if dice.random() < 0.5:
        header["descr"] = dice.choice(DTYPES)
    text = repr(header)
    if dice.random() < 0.2:
        text = dice.choice((f"({text},)", "[" * 300, "9" * 5000, "-" * 2000 + "1", text[:-1]))
    version = dice.choice((1, 1, 2, 3, 9))
    length = len(text.encode()).to_bytes(2 if version == 1 else 4, "little")
    head = b"\x93NUMPY" + bytes((version, 0)) + length + text.encode()
    return head + dice.randbytes(dice.choice((0, 8, 32, 64)))


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    assert ast.literal_eval(stream.getvalue()[10:128].decode().strip())
    return stream.getvalue()
