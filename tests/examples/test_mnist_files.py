"""The files that the MNIST example reads: as they were written, or refused."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from bounds import InvalidInputError, ModelFileError
from bounds.models import load_digits_model
from examples import mnist
from examples.image_data import load_data, load_models, read_cifar, read_idx
from tests.support.mnist_files import idx, same, write_data, write_digits


def test_idx_files_are_read_as_written(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    write_data(tmp_path, images, np.array([7, 0], np.uint8))
    data = load_data(tmp_path)
    assert np.array_equal(data.train.raw.squeeze(1), images)
    assert data.test.labels.tolist() == [7, 0]
    like = torch.zeros((), dtype=torch.float64)
    assert torch.equal(
        data.test.pixels(slice(1), like).flatten(), torch.arange(15) / like.new(1).fill_(255)
    )


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
DAMAGED = {
    "not gzip": WHOLE,
    "empty": b"",
    "nothing inside": gzip.compress(b""),
    "cut gzip": gzip.compress(WHOLE)[:-9],
    "changed gzip": gzip.compress(WHOLE)[:-8] + bytes(8),
    "cut": gzip.compress(WHOLE[:-1]),
    "cut header": gzip.compress(WHOLE[:9]),
    "longer": gzip.compress(WHOLE + b"\0"),
    "floats": gzip.compress(b"\0\0\x0d\3" + WHOLE[4:]),
    "one axis": gzip.compress(idx(np.zeros(8, np.uint8))),
    "little-endian": gzip.compress(WHOLE[:4] + struct.pack("<3I", 2, 3, 4) + WHOLE[16:]),
    "huge": gzip.compress(WHOLE[:4] + b"\xff" * 12 + WHOLE[16:]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_idx_files_are_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(InvalidInputError, match=r"expected a gzipped IDX file") as caught:
        read_idx(path, axes=3)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_contradict_each_other_are_refused(tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "data")
    labels = digits / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.zeros(15, np.uint8))))
    with pytest.raises(InvalidInputError, match="16 images and its label file 15 labels"):
        load_data(digits)
    labels.write_bytes(gzip.compress(idx(np.full(16, 10, np.uint8))))
    with pytest.raises(InvalidInputError, match="label 10"):
        load_data(digits)
    labels.unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_data(digits)


def test_weights_come_from_state_dicts_cascades_and_nothing_else(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pth", load_digits_model("digits_robust").state_dict()
    for content, count in (
        (state, 1),
        ({"state_dict": state}, 1),
        ({"state_dict": [state] * 3}, 3),
    ):
        torch.save(content, path)
        models = load_models(path)
        assert len(models) == count
        assert all(same(dict(model.state_dict()), dict(state)) for _, model in models)
    cut = {name: tensor for name, tensor in state.items() if name != "0.bias"}
    for content in ({}, [1], cut, state | {"0.bias": torch.zeros(3)}, Path("pickled")):
        torch.save(content, path)
        with pytest.raises(ModelFileError, match=r"w.pth"):
            load_models(path)


class Hostile:
    """What pickle makes of it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_of_weights_is_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "w.pth", tmp_path / "trace"
    torch.save(Hostile(trace), path)
    with pytest.raises(ModelFileError):
        load_models(path)
    assert not trace.exists()


# -- CIFAR-10


def write_cifar(folder: Path, shared_data: Path) -> np.ndarray:
    """Its six files, each with some of the images that there are; their bytes, of the last one."""
    found = np.load(shared_data / "cifar10" / "cifar10_test_first100_eran.npz")
    images, labels = found["images"], found["labels"]
    folder.mkdir()
    for number in range(6):
        some = slice(16 * number, 16 * number + 16)
        records = np.concatenate(
            (labels[some, None].astype(np.uint8), images[some].reshape(16, -1)), axis=1
        )
        name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
        (folder / name).write_bytes(records.tobytes())
    return images


def test_cifar_is_read_trained_on_and_evaluated(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_cifar(tmp_path / "data", shared_data)
    data = load_data(tmp_path / "data")
    assert np.array_equal(data.train.raw.numpy(), images[:80])
    assert np.array_equal(data.test.raw.numpy(), images[80:96])
    where = ["--data", str(tmp_path / "data"), "--radius", str(2 / 255)]
    training = ["--loss", "mixed", "--shift", "2", "--epochs", "2", "--schedule-length", "1"]
    output = ["--output", str(tmp_path / "run"), "--start-radius", "0"]
    assert mnist.main(["train", *where, *training, *output]) == 0
    file = str(tmp_path / "found.json")
    weights = str(tmp_path / "run" / "checkpoint.pt")
    assert mnist.main(["evaluate", weights, *where, "--timeout", "0", "--json", file]) == 0
    assert "16 test images" in capsys.readouterr().out
    assert json.loads(Path(file).read_text())["images"] == 16


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(2 * 3073 - 1), b"\x0a" + bytes(3072)])
def test_damaged_cifar_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(InvalidInputError, match="no file of CIFAR-10's binary version"):
        read_cifar(tmp_path / "test_batch.bin")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_data(tmp_path)
