"""Edited proofs: with the digest as it was they are rejected by it, and with a new one by what does
not follow. What is not true is accepted in no edit at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bounds
from bounds.read.vnnlib.property import Property
from bounds.solution.certificate_file import network_digest
from bounds.solution.proof_file import whole_numbers
from tests.support.networks import Dice
from tests.support.proofs import (
    Arrays,
    Edit,
    Statement,
    contents,
    edit,
    hard_property,
    reasons,
    save,
    unstable_neurons,
    whole_tree,
)
from tests.support.referee import random_net, random_relaxation
from tests.support.refusals import refused

BOXES, PROPERTY = hard_property()
RELAXATION = random_relaxation(3, 8, 8, 3, seed=4, batch=1)
#: What the rows of the tree of phases are above 0 by, in its worst leaf.
ABOVE = 1e-3


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "proof"
    assert bounds.certify_vnnlib(BOXES, PROPERTY, proof=path).verdict == "unsat"
    return path


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of eight leaves, whose disjunct has two rows."""
    path = tmp_path_factory.mktemp("phases") / "proof"
    neurons, weights = unstable_neurons(RELAXATION)[:3], list(torch.eye(2).double())
    _, values = whole_tree(RELAXATION, neurons, weights, Dice(0))
    lifted = lift(ABOVE - min(values))
    tree, _ = whole_tree(lifted, neurons, weights, Dice(0))
    save(path, lifted, tree)
    return path


def lift(by: float) -> bounds.Relaxation:
    return bounds.Relaxation(
        RELAXATION.network,
        RELAXATION.input_set,
        RELAXATION.C,
        RELAXATION.d + by,
        RELAXATION.relu_bounds,
        RELAXATION.intermediate,
        RELAXATION.slope,
    )


def tensor(name: str, change: object) -> Edit:
    def edited(statement: Statement, arrays: Arrays) -> None:
        arrays[name] = change(arrays[name].copy())  # type: ignore[operator]

    return edited


def put(name: str, at: object, value: object) -> Edit:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return tensor(name, change)


def replace(name: str, value: object) -> Edit:
    return lambda statement, arrays: statement.update({name: value})


def first(name: str, kind: int, value: int) -> Edit:
    """The first node of one kind becomes one of another."""
    return tensor(name, lambda k: np.where(np.arange(len(k)) == (k == kind).argmax(), value, k)
                  .astype(k.dtype))  # fmt: skip


def cut_off(statement: Statement, arrays: Arrays) -> None:
    """The children of the root become leaves, and all below is gone."""
    splits = int((arrays["node.kind"] == 0).sum())
    assert splits > 3
    arrays["node.kind"] = np.array([0, 1, 2], dtype=np.uint8)
    arrays["disjunct.nodes"] = whole_numbers([3])
    arrays["split.at"], arrays["split.place"] = (
        arrays[f"split.{name}"][:1] for name in ("at", "place")
    )
    arrays["leaf.row"] = whole_numbers([0, 0])


OF_BOXES: dict[str, tuple[Edit, str]] = {
    "a place": (put("split.place", 0, 0.9), "leaves of its tree are not proved"),
    "no place": (put("split.place", 0, np.nan), "not finite"),
    "another coordinate": (tensor("split.at", lambda a: (a + 1) % 3), "not proved"),
    "no coordinate": (put("split.at", 0, 200), "a neuron that the network does not have"),
    "a neuron": (put("split.at", 0, 5), "splits inputs, and neurons"),
    "a leaf less": (cut_off, "2 of 2 leaves of its tree are not proved"),
    "a cut": (first("node.kind", 1, 3), "not proved|expected"),
    "a kind": (first("node.kind", 1, 9), "unknown kind"),
    "a split more": (first("node.kind", 1, 0), "two nodes more for every split"),
    "a node less": (tensor("node.kind", lambda k: k[:-1]), "expected"),
    "a row that is none": (put("leaf.row", 0, 7), "a row that its disjunct does not have"),
    "a smaller box": (put("case.upper", (0, 0), 0.5), "lets input 0 lie in"),
    "a larger box": (put("case.upper", (0, 0), 1.5), "not proved"),
    "an empty box": (put("case.upper", (0, 0), -1.0), "a box is empty"),
    "an endless box": (put("case.upper", (0, 0), np.inf), "no number"),
    "a row less": (put("row.coefficient", 0, 0.0), "no inequality of the property implies"),
    "another row": (put("row.coefficient", 0, -1.0), "no inequality of the property implies"),
    "no row": (put("disjunct.rows", 0, 0), "a disjunct has no rows"),
    "a higher d": (tensor("row.d", lambda d: d + 0.5), "no inequality of the property implies"),
    "a lower d": (tensor("row.d", lambda d: d - 0.5), "not proved"),
    "an output that is none": (put("row.output", 0, 5), "one that the network does not have"),
    "another case": (put("case.number", 0, 1), "the property has a case 0"),
    "another network": (replace("network", "0" * 64), "the proof is of another network"),
}


@pytest.mark.parametrize("case", OF_BOXES)
def test_an_edit_that_does_not_follow(boxes: Path, case: str) -> None:
    change, reason = OF_BOXES[case]
    for sealed in (True, False):
        check = bounds.check_proof(edit(boxes, change, sealed=sealed), BOXES, vnnlib=PROPERTY)
        assert not check.accepted
        found = reasons(check)
        assert any(each in found for each in (reason if sealed else "the digest").split("|")), found


OF_PHASES: dict[str, tuple[Edit, str]] = {
    "another ν": (tensor("multipliers.f16", lambda v: v[::-1]), "not proved"),
    "no ν": (tensor("multipliers.f16", lambda v: v * 0), "not proved"),
    "ν to NaN": (put("multipliers.f16", 0, np.nan), "not finite"),
    "ν to infinity": (put("multipliers.f16", 0, np.inf), "not finite"),
    "λ of the other row": (tensor("refutation.weights", lambda w: 1 - w), "not proved"),
    "no λ": (tensor("refutation.weights", lambda w: 0 * w), "not proved"),
    "a negative λ": (tensor("refutation.weights", lambda w: w - 0.5), "a negative weight"),
    "other phases": (tensor("phase.literal", lambda p: p ^ 1), "not proved"),
    "a neuron that is none": (put("phase.literal", 0, 200), "does not have"),
    "the other refutation": (tensor("leaf.refutation", lambda r: r[::-1]), "not proved"),
    "a refutation that is none": (put("leaf.refutation", 0, 9), "1 of 8 leaves"),
    "another split": (tensor("split.at", lambda a: a[::-1]), "not proved"),
    "rows lower": (tensor("row.d", lambda d: d - 2 * ABOVE), "1 of 8 leaves"),
    "no neurons": (tensor("case.neurons", lambda n: 0 * n), "expected|too few"),
    "widths": (tensor("refutation.bytes", lambda b: 0 * b + 8), "too few numbers"),
    "no width": (tensor("refutation.bytes", lambda b: b + 1), "a width that is none"),
}


@pytest.mark.parametrize("case", OF_PHASES)
def test_an_edit_of_phases_that_does_not_follow(phases: Path, case: str) -> None:
    assert bounds.check_proof(phases, RELAXATION.network).accepted
    change, reason = OF_PHASES[case]
    check = bounds.check_proof(edit(phases, change), RELAXATION.network)
    assert not check.accepted
    found = reasons(check)
    assert any(each in found for each in reason.split("|")), found


@pytest.mark.parametrize("change", [
    tensor("split.place", lambda p: p + 1e-9),
    tensor("node.kind", lambda k: np.where(k == 2, 1, k).astype(k.dtype)),
    tensor("leaf.row", lambda r: 1 - r),
], ids=["places", "slopes", "rows"])  # fmt: skip
def test_an_edit_that_leaves_a_proof_is_no_matter(boxes: Path, change: Edit) -> None:
    """Splits elsewhere cover too; and where the row that a leaf names is not positive, others are
    looked at more closely."""
    check = bounds.check_proof(edit(boxes, change), BOXES, vnnlib=PROPERTY)
    assert check.accepted, reasons(check)


def test_another_network_of_the_same_shape(boxes: Path) -> None:
    """Even where the file says that it is about that one."""
    other = random_net(3, 16, 16, 2, seed=1, scale=2.5)
    forged = edit(boxes, replace("network", network_digest(other)))
    assert not bounds.check_proof(forged, other, vnnlib=PROPERTY).accepted


# -- what is false


def false_property() -> Property:
    """What `hard_property` says, but of an unsafe set with outputs in it."""
    return hard_property(-0.02)[1]


@st.composite
def edits(draw: st.DrawFn, arrays: Arrays) -> Edit:
    """Some numbers of some tensors, bits of them, parts left out or twice, or in another order."""
    changes = []
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(arrays)))
        kind = draw(st.sampled_from(["bit", "bits", "scale", "reverse", "drop", "twice", "value"]))
        number = draw(st.integers(0, 2**20))
        value = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, 1e300, 5e-324]))

        def change(
            array: np.ndarray, kind: str = kind, number: int = number, value: float = value
        ) -> np.ndarray:
            flat = np.ascontiguousarray(array.copy())
            if flat.size == 0:
                return flat
            octets = flat.view(np.uint8).reshape(-1)
            at = number % flat.size
            if kind == "bit":
                octets[number % octets.size] ^= 1 << (number % 8)
            elif kind == "bits":
                octets[:: 1 + number % 7] ^= 1 << (number % 8)
            elif kind == "reverse":
                return flat[::-1]
            elif kind == "drop":
                return np.delete(flat, number % len(flat), 0)
            elif kind == "twice":
                return np.concatenate((flat, flat[:1]))
            elif flat.dtype.kind == "f" and kind == "value":
                flat.reshape(-1)[at] = value
            elif flat.dtype.kind == "f":
                flat *= 0.5 + number % 3
            else:
                flat.reshape(-1)[at] = number % 256
            return flat

        changes.append(tensor(name, change))
    return lambda statement, arrays: [each(statement, arrays) for each in changes]


def accepted(path: Path, network: bounds.Network, property: Property | None) -> bool:
    """Or it is refused, in one line."""
    try:
        return bounds.check_proof(path, network, vnnlib=property).accepted
    except bounds.InvalidInputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return False


@settings(max_examples=60)
@given(st.data())
def test_no_edit_proves_a_property_that_is_false(boxes: Path, data: st.DataObject) -> None:
    """The rows of the file are those of the false property, so that all else would do."""
    false = false_property()
    offsets = [-float(row.bound) for row in false.cases[0].disjuncts[0]]
    change = data.draw(edits(contents(boxes)[1]))

    def edited(statement: Statement, arrays: Arrays) -> None:
        arrays["row.d"] = np.nextafter(np.array(offsets), -np.inf)
        change(statement, arrays)

    assert not accepted(edit(boxes, edited), BOXES, false)


@settings(max_examples=60)
@given(st.data())
def test_what_an_edited_file_states_is_true_if_it_is_accepted(
    boxes: Path, phases: Path, data: st.DataObject
) -> None:
    """At many points of its boxes."""
    path, network = data.draw(st.sampled_from([(boxes, BOXES), (phases, RELAXATION.network)]))
    copy = edit(path, data.draw(edits(contents(path)[1])))
    try:
        check = bounds.check_proof(copy, network)
    except bounds.InvalidInputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    for case in check.cases if check.accepted else ():
        lower, upper = torch.from_numpy(case.lower), torch.from_numpy(case.upper)
        x = lower + (upper - lower) * Dice(0).uniform(2000, len(lower))
        y = network(x)
        for C, d in case.disjuncts:
            values = y @ torch.from_numpy(C).T + torch.from_numpy(d)
            assert (values.amax(1) > 0).all()


# -- files that are none


@given(st.data())
def test_a_damaged_byte_never_passes(boxes: Path, data: st.DataObject) -> None:
    whole = bytearray(boxes.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    damaged = boxes.with_name("damaged")
    damaged.write_bytes(whole)
    assert not accepted(damaged, BOXES, PROPERTY)


REFUSED: dict[str, tuple[Edit, str]] = {
    "format": (replace("format", 2), "in format 2, and this version of bounds reads format 1"),
    "no format": (replace("format", None), "without a format"),
    "of": (replace("of", "models"), "has 'of' 'models'"),
    "more": (replace("more", 1), "has an unknown entry 'more'"),
    "digest": (replace("versions", {"a": 1}), "versions that are not text"),
    "network": (replace("network", 1), "has 'network' as int"),
    "dropped": (lambda statement, arrays: arrays.pop("row.d"), "lacks tensor 'row.d'"),
    "added": (
        lambda statement, arrays: arrays.update(x=np.zeros(1)),
        "has an unknown tensor 'x'",
    ),
    "type": (tensor("row.d", lambda d: d.astype(np.float32)), "has 'row.d' as F32"),
    "signed": (tensor("split.at", lambda a: a.astype(np.int64)), "has 'split.at' as I64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_in_the_format(boxes: Path, case: str) -> None:
    change, reason = REFUSED[case]
    copy = edit(boxes, change)
    refused(lambda: bounds.check_proof(copy, BOXES), bounds.InvalidInputError, str(copy), reason)


def test_what_is_no_proof_at_all(boxes: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"", boxes.read_bytes()[:-8], b"\xff" * 64):
        file.write_bytes(content)
        refused(
            lambda: bounds.check_proof(file, BOXES),
            bounds.InvalidInputError,
            "is not a safetensors file",
        )
    refused(
        lambda: bounds.check_proof(tmp_path, BOXES), bounds.InvalidInputError, "not a regular file"
    )
    refused(
        lambda: bounds.check_proof(7, BOXES),  # type: ignore[arg-type]
        bounds.InvalidInputError,
        "got int",
    )
    certificate = tmp_path / "certificate"
    bounds.solve(RELAXATION).certificate.save(certificate)
    refused(
        lambda: bounds.check_proof(certificate, RELAXATION.network),
        bounds.InvalidInputError,
        "metadata other than one entry",
    )
