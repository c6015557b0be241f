"""ONNX files that are damaged, hostile or something else are refused, and read no other file."""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto

from bounds import BoundsError, InvalidInputError, ModelFileError, Network, onnx_file
from bounds.onnx_operators import HANDLERS
from tests.onnx_graphs import Normal, Whole, graph_of, run, step, write
from tests.refusals import refused

#: A graph that has layers, shapes, a constant that is folded, and a residual connection.
GRAPH = graph_of(
    step("Conv", 0, Normal((4, 2, 3)), Normal((4,)), pads=[1, 1], strides=[1]),
    step("Relu", 1),
    step("Conv", 2, Normal((4, 2, 3)), pads=[1, 1], group=2),
    step("Add", 2, 3),
    step("MaxPool", 4, kernel_shape=[2], strides=[2]),
    step("Shape", 5),
    step("Gather", 6, Whole((0,))),
    step("Concat", 7, Whole((-1,)), axis=0),
    step("Reshape", 5, 8),
    step("Transpose", Normal((3, 8)), perm=[1, 0]),
    step("Mul", 10, Normal(())),
    step("MatMul", 9, 11),
    step("Gemm", 12, Normal((3, 5)), Normal((5,)), alpha=0.5),
    step("Slice", 13, Whole((0,)), Whole((4,)), Whole((1,))),
    shape=("N", 2, 4),
)


def refused_path(path: Any, *fragments: str) -> None:
    refused(lambda: Network.from_onnx(path), ModelFileError, repr(str(path)), *fragments)


# -- other files -----------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused_path(tmp_path / "missing.onnx", "No such file", "the path of an .onnx file")
    refused_path(tmp_path, "is a directory")
    refused_path("a\0b", "null")
    os.mkfifo(tmp_path / "pipe")
    refused_path(tmp_path / "pipe", "not a regular file")
    with pytest.raises(InvalidInputError, match="got a BytesIO, expected the path"):
        Network.from_onnx(io.BytesIO())  # type: ignore[arg-type]


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
    np.testing.assert_allclose(Network.from_onnx(path)(x), expected, rtol=0, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(Network.from_onnx("model.onnx")(x), expected, rtol=0, atol=1e-6)


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


# -- any bytes -------------------------------------------------------------------------------------

EXTREMES = (0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31), 2**34 - 41, 2**62, -(2**63))


def mutate(model: ModelProto, dice: random.Random) -> None:
    """Change the message in one place, as a hostile writer would."""
    nodes, tensors = model.graph.node, model.graph.initializer
    node: NodeProto = dice.choice(nodes)
    tensor: TensorProto = dice.choice(tensors)
    names = [name for n in nodes for name in (*n.input, *n.output)]
    match dice.randrange(14):
        case 0:
            node.op_type = dice.choice([*HANDLERS])
        case 1 if len(nodes) > 1:
            nodes.remove(node)
        case 2:
            nodes.insert(dice.randrange(len(nodes)), dice.choice(nodes))
        case 3 if node.input:
            node.input[dice.randrange(len(node.input))] = dice.choice([*names, ""])
        case 4:
            node.input.append(dice.choice(names))
        case 5 if node.input:
            del node.input[dice.randrange(len(node.input)) :]
        case 6:
            node.output.append(f"extra{dice.random()}")
        case 7 if node.attribute:
            attribute = dice.choice(node.attribute)
            attribute.i = dice.choice(EXTREMES)
            attribute.f = dice.choice((0.0, 1e38, float("nan"), float("inf")))
            for i in range(len(attribute.ints)):
                attribute.ints[i] = dice.choice((*EXTREMES, attribute.ints[i]))
        case 8:
            donor = dice.choice([n for n in nodes if n.attribute])
            node.attribute.append(dice.choice(donor.attribute))
        case 9 if tensor.dims:
            tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(EXTREMES)
        case 10:
            tensor.data_type = dice.randrange(20)
        case 11:
            kind = {1: np.float32, 7: np.int64}.get(tensor.data_type, np.float32)
            count = len(tensor.raw_data) // np.dtype(kind).itemsize
            values = [dice.choice(EXTREMES) for _ in range(count)]
            tensor.raw_data = np.array(values).astype(kind).tobytes()
        case 12:
            dims = model.graph.input[0].type.tensor_type.shape.dim
            dice.choice(dims).dim_value = dice.choice(EXTREMES)
        case _:
            model.graph.output[0].name = dice.choice(names)


def flip(data: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(data)
    if dice.random() < 0.2:
        del damaged[dice.randrange(len(data)) :]
    for _ in range(dice.choice((1, 1, 3)) if damaged else 0):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def outcome(data: bytes, path: Path) -> str:
    """ "read", or "refused" in one line; anything else is an error of the test."""
    path.write_bytes(data)
    try:
        network = Network.from_onnx(path)
    except BoundsError as error:
        return "lines" if "\n" in str(error) else "refused"
    assert network(torch.zeros(2, *network.input_shape)).shape == (2, *network.output_shape)
    return "read"


@pytest.mark.parametrize("level", ["bytes", "message"])
def test_any_damage_is_refused_or_harmless(level: str, tmp_path: Path) -> None:
    dice, valid = random.Random(0), GRAPH.model().SerializeToString()
    found: list[str] = []
    for _ in range(300):
        data = flip(valid, dice) if level == "bytes" else valid
        if level == "message":
            model = ModelProto.FromString(valid)
            for _ in range(dice.choice((1, 1, 2, 4))):
                mutate(model, dice)
            data = model.SerializeToString()
        found.append(outcome(data, tmp_path / "m.onnx"))
    assert set(found) == {"read", "refused"}
    assert found.count("refused") > 100
