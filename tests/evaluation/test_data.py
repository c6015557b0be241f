"""Data sets from files: what is read as what, and what is refused."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from bounds import InvalidInputError
from bounds.evaluation.data import read_data
from bounds.evaluation.normalised import normalised
from bounds.evaluation.radii import fractions_of
from bounds.read.torch.from_torch import from_torch
from tests.support.evaluations import write_pngs
from tests.support.mnist_files import idx
from tests.support.refusals import refused

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (4, 5, 6), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2])


def saved(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_bytes_become_the_nearest_numbers_from_0_to_1(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", pixels=COLOUR, classes=LABELS)
    data = read_data(path, None, (3, 5, 6))
    for image, channels in zip(COLOUR, data.images, strict=True):
        expected = [
            [[np.float32(Fraction(int(byte), 255)) for byte in row] for row in image[..., channel]]
            for channel in range(3)
        ]
        assert channels.tolist() == expected
    assert data.images.dtype == torch.float32
    assert data.labels.tolist() == LABELS.tolist()
    assert data.pixels
    assert data.names == ("0", "1", "2", "3")


def test_the_same_images_in_every_kind_of_file(tmp_path: Path) -> None:
    expected = torch.from_numpy(GREY).float().unsqueeze(1) / 255
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.idx").write_bytes(idx(GREY))
    (tmp_path / "a.idx.gz").write_bytes(gzip.compress(idx(GREY)))
    saved(tmp_path / "a.npz", images=GREY, other=GREY[:, :2], labels=LABELS, more=LABELS + 1)
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / "y.gz").write_bytes(gzip.compress(idx(LABELS.astype(np.uint8))))
    (tmp_path / "y.txt").write_text("2\n0\n1\n2\n")
    names = ["c.png", "b.png", "a.png", "d.png"]
    write_pngs(tmp_path / "flat", GREY[[2, 1, 0, 3]], names)
    (tmp_path / "named.csv").write_text("d.png,2\nb.png,0\nc.png,1\na.png, 2\n")
    for data, labels in (
        ("a.npy", "y.npy"),
        ("a.idx", "y.gz"),
        ("a.idx.gz", "y.txt"),
        ("a.npz", "labels"),
        ("a.npz", None),
        ("flat", "named.csv"),
        ("flat", "y.txt"),
    ):
        given = None if labels is None else labels if labels == "labels" else tmp_path / labels
        read = read_data(str(tmp_path / data), given and str(given), (1, 5, 6))
        assert torch.equal(read.images, expected), data
        assert read.labels.tolist() == LABELS.tolist(), (data, labels)
    flat = read_data(str(tmp_path / "a.npy"), str(tmp_path / "y.npy"), (30,))
    assert torch.equal(flat.images, expected.flatten(1))
    assert read_data(str(tmp_path / "a.npz"), "more", (1, 5, 6)).labels.tolist() == [3, 1, 2, 3]


def test_folders_are_classes(tmp_path: Path) -> None:
    numbers = ["10/a.png", "9/a.png", "9/b.png", "10/b.png"]
    write_pngs(tmp_path / "numbers", COLOUR, numbers)
    data = read_data(str(tmp_path / "numbers"), None, (3, 5, 6))
    assert data.names == ("10/a.png", "10/b.png", "9/a.png", "9/b.png")
    assert data.labels.tolist() == [10, 10, 9, 9]
    assert torch.equal(data.images[2], torch.from_numpy(COLOUR[1]).permute(2, 0, 1).float() / 255)
    write_pngs(tmp_path / "words", COLOUR, ["dog/a.png", "cat/b.png", "dog/c.png", "eel/d.png"])
    assert read_data(str(tmp_path / "words"), None, (3, 5, 6)).labels.tolist() == [0, 1, 1, 2]


def test_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(4, 3))
    data = read_data(saved(tmp_path / "a.npz", x=x, y=LABELS), None, (3,))
    assert torch.equal(data.images, torch.from_numpy(x))
    assert not data.pixels


def test_what_is_refused(tmp_path: Path) -> None:
    def read(name: str, labels: str | None = None, shape: tuple[int, ...] = (1, 5, 6)) -> None:
        read_data(str(tmp_path / name), labels and str(tmp_path / labels), shape)

    def refuse(*arguments: object, says: tuple[str, ...]) -> None:
        refused(lambda: read(*arguments), InvalidInputError, *says)  # type: ignore[arg-type]

    (tmp_path / "empty").mkdir()
    refuse("empty", says=("no .png file",))
    refuse("nowhere.npz", says=("it is not there",))
    np.save(tmp_path / "a.npy", GREY)
    refuse("a.npy", says=("--labels is missing",))
    refuse("a.npy", "a.npy", says=("uint8 of shape (4, 5, 6) for 4 images",))
    refuse("a.npy", "nowhere.txt", says=("No such file",))
    (tmp_path / "three.txt").write_text("1\n2\n3\n")
    refuse("a.npy", "three.txt", says=("shape (3,) for 4 images",))
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    refuse("a.npy", "words.txt", says=("no text file of labels",))
    (tmp_path / "four.txt").write_text("1\n2\n3\n0\n")
    refuse("a.npy", "four.txt", (3, 5, 6), says=("images of shape (5, 6)", "takes (3, 5, 6)"))
    np.save(tmp_path / "int.npy", GREY.astype(np.int64))
    refuse("int.npy", "four.txt", says=("int64", "uint8"))
    np.save(tmp_path / "nan.npy", np.full((4, 1, 5, 6), np.nan))
    refuse("nan.npy", "four.txt", says=("NaN",))
    np.save(tmp_path / "object.npy", np.array([{}, {}]), allow_pickle=True)
    refuse("object.npy", "four.txt", says=("not a readable",))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx(GREY))[:-20])
    refuse("cut.gz", "four.txt", says=("cut off or damaged",))
    (tmp_path / "long.idx").write_bytes(idx(GREY) + b"!")
    refuse("long.idx", "four.txt", says=("states 120 numbers and has 121",))
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((4, 2**24), dtype=np.uint8))
    refuse("bomb.npz", "four.txt", says=("out of proportion",))
    saved(tmp_path / "two.npz", a=GREY, b=GREY, labels=LABELS)
    refuse("two.npz", says=("a (4, 5, 6), b (4, 5, 6)", "'images'"))
    write_pngs(tmp_path / "mixed", np.array(GREY[:1]), ["a.png"])
    write_pngs(tmp_path / "mixed", np.array(GREY[:1, :4]), ["b.png"])
    refuse("mixed", "three.txt", says=("several shapes", "'a.png' of (5, 6)", "'b.png' of (4, 6)"))
    write_pngs(tmp_path / "deep", GREY[:1].astype(np.uint16), ["0/a.png"])
    refuse("deep", says=("mode 'I;16'", "convert('L')"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    refuse("damaged", "three.txt", says=("not a readable PNG",))
    write_pngs(tmp_path / "named", GREY, ["a.png", "b.png", "c.png", "d.png"])
    (tmp_path / "named.csv").write_text("a.png,1\nb.png,1\nc.png,1\n")
    refuse("named", "named.csv", says=("no line 'name,label' for 'd.png'",))
    write_pngs(tmp_path / "half", GREY[:2], ["0/a.png", "b.png"])
    refuse("half", says=("--labels is missing",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normalisation_is_a_layer_of_the_network(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(60, 4),
    ).to(dtype)
    network = from_torch(model, (3, 5, 6))
    mean, std = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
    whole = normalised("evaluate", network, mean, std)
    x = torch.rand(7, 3, 5, 6, dtype=dtype)
    centred = (x - torch.tensor(mean, dtype=dtype).reshape(3, 1, 1)) / torch.tensor(
        std, dtype=dtype
    ).reshape(3, 1, 1)
    torch.testing.assert_close(whole(x), model(centred))
    torch.testing.assert_close(normalised("evaluate", network, 0.5, None)(x), model(x - 0.5))
    assert normalised("evaluate", network, None, None) is network


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ([0.1, 0.2], None, "2 numbers, expected one finite number, or 3"),
        (float("nan"), None, "nan"),
        (None, 0.0, "expected positive numbers"),
        (None, [1.0, 1.0, -1.0], "got -1.0"),
        ("0.5", None, "'0.5'"),
    ],
)
def test_numbers_that_do_not_normalise(mean: object, std: object, says: str) -> None:
    network = from_torch(torch.nn.Flatten(), (3, 5, 6), dtype=torch.float64)
    refused(lambda: normalised("evaluate", network, mean, std), InvalidInputError, says)  # type: ignore[arg-type]


def test_radii_are_exact() -> None:
    found = fractions_of("evaluate", ["8/255", "0.01", 0.5, "1e-3", 0])
    assert found == {
        Fraction(0): "0",
        Fraction(1, 1000): "1e-3",
        Fraction(1, 100): "0.01",
        Fraction(8, 255): "8/255",
        Fraction(1, 2): "0.5",
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    "radii",
    [
        [], "0.1", None, [-1], ["-1"], ["1/0"], [float("nan")], [float("inf")], ["1e999"], ["x"],
        ["1e9999999999"], [10**400], ["0.5", 0.5], [True], [None], ["1/2/3"], [""], ["."], ["/2"],
    ],
)  # fmt: skip
def test_radii_that_are_none(radii: object) -> None:
    refused(lambda: fractions_of("evaluate", radii), InvalidInputError, "evaluate(radii)")  # type: ignore[arg-type]
