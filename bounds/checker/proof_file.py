"""Reads the file of a proof, of which nothing is trusted, into cases and trees.

`bounds/solution/proof_file.py` documents the format. As in `bounds.checker.file`, what is not in
the format is refused (InvalidInputError), and what is but does not fit together is `Rejected`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bounds.checker.evidence import Rejected
from bounds.checker.file import SLOPES
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.solution.certificate_file import network_digest
from bounds.solution.proof_file import FORMAT, KEY, MULTIPLIERS, SPLIT, proof_digest

STATED = {"format", "network", "of", "intermediate", "slope", "versions", "digest"}
ALWAYS = {
    "case.number": "int",
    "case.lower": "F64",
    "case.upper": "F64",
    "case.disjuncts": "int",
    "disjunct.rows": "int",
    "row.terms": "int",
    "row.output": "int",
    "row.coefficient": "F64",
    "row.d": "F64",
    "disjunct.nodes": "int",
    "node.kind": "U8",
    "split.at": "int",
    "split.place": "F64",
    "leaf.row": "int",
}
REFUTATIONS = {
    "case.neurons": "U8",
    "disjunct.refutations": "int",
    "leaf.refutation": "int",
    "refutation.phases": "int",
    "phase.literal": "int",
    "refutation.weights": "F64",
    "refutation.bytes": "U8",
    "multipliers.present": "U8",
    "multipliers.f16": "F16",
    "multipliers.f32": "F32",
    "multipliers.f64": "F64",
}
INTEGERS = ("U8", "U16", "U32", "U64")
#: Rows times outputs: what an edited file may make this reserve.
NUMBERS = 2**28


@dataclass(frozen=True)
class ProofFile:
    """A file whose statement is in the format; its tensors have the right types, and are unchecked
    otherwise."""

    path: str
    statement: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def require_unchanged(self) -> None:
        if proof_digest(self.statement, self.arrays) != self.statement["digest"]:
            raise Rejected(
                "the file was edited or damaged since it was saved: its contents do not have the "
                "digest that it states"
            )

    def require_network(self, network: Network) -> None:
        if network_digest(network) != self.statement["network"]:
            raise Rejected(
                "the proof is of another network: the digest of the model, read in float64, is not "
                "the one that it states; if the model is the right one, prove it again with "
                "dtype=torch.float64"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.arrays[name]
        return array.astype(np.int64) if array.dtype.kind == "u" else array

    def list(self, name: str, length: int) -> np.ndarray:
        """A tensor of one axis, which has to have this length and finite numbers."""
        array = self[name]
        if array.shape != (length,):
            raise Rejected(f"the file has {name!r} of shape {array.shape}, expected ({length},)")
        if not np.isfinite(array).all():
            raise Rejected(f"the file has numbers in {name!r} that are not finite")
        if (array < 0).any() and array.dtype.kind == "i":
            raise Rejected(f"the file has numbers in {name!r} that are too large")
        return array

    def counts(self, name: str, length: int) -> np.ndarray:
        """A list of so many counts as the ends of what they count, beginning with 0."""
        counts = self.list(name, length)
        if (counts > 2**40).any():
            raise Rejected(f"the file has numbers in {name!r} that are too large")
        return np.concatenate(([0], np.cumsum(counts)))

    def refuse(self, found: str) -> InvalidInputError:
        """The error that says so."""
        return InvalidInputError(
            f"{self.path!r} is not a proof that can be checked: it {found}; save it again with "
            "bounds certify --proof."
        )


@dataclass(frozen=True, eq=False)
class Cases:
    """number: of each. lower, upper: (cases, inputs). disjuncts, rows: of each case, and of each
    disjunct, where they begin and end. C, d: of all rows, (rows, outputs) and (rows,)."""

    number: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    disjuncts: np.ndarray
    rows: np.ndarray
    C: np.ndarray
    d: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    @property
    def of_disjunct(self) -> np.ndarray:
        """The case of each disjunct."""
        return np.repeat(np.arange(len(self)), np.diff(self.disjuncts))


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees of all disjuncts. Of each node: kind, and its disjunct. first: the first child of a
    split, the second comes after it. at, place: of a split. which: of a leaf, the row of its
    disjunct, or the refutation of its disjunct. roots: of each disjunct."""

    kind: np.ndarray
    disjunct: np.ndarray
    first: np.ndarray
    at: np.ndarray
    place: np.ndarray
    which: np.ndarray
    roots: np.ndarray

    @property
    def leaves(self) -> int:
        return int((self.kind != SPLIT).sum())


def cases_of(file: ProofFile, network: Network) -> Cases:
    """Raises Rejected where tensors do not fit together or the network."""
    inputs, outputs = (int(np.prod(node.shape)) for node in (network.nodes[0], network.nodes[-1]))
    count = len(file["case.number"])
    if count == 0:
        raise Rejected("the file has no cases")
    number = file.list("case.number", count)
    if len(np.unique(number)) < count:
        raise Rejected("the file has two cases of one number")
    ends = []
    for name in ("case.lower", "case.upper"):
        if file[name].shape != (count, *network.nodes[0].shape):
            raise Rejected(
                f"the file has {name!r} of shape {file[name].shape}, expected "
                f"{(count, *network.nodes[0].shape)}"
            )
        ends.append(file[name].reshape(count, inputs))
    lower, upper = ends
    if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
        raise Rejected("a box is empty, or has an end that is no number")
    disjuncts = file.counts("case.disjuncts", count)
    rows = file.counts("disjunct.rows", int(disjuncts[-1]))
    if (np.diff(rows) == 0).any():
        raise Rejected("a disjunct has no rows")
    total = int(rows[-1])
    terms = file.counts("row.terms", total)
    output = file.list("row.output", int(terms[-1]))
    coefficient = file.list("row.coefficient", int(terms[-1]))
    if total * outputs > NUMBERS:
        raise Rejected("the file has more rows than can be checked at once")
    row = np.repeat(np.arange(total), np.diff(terms))
    if (output >= outputs).any() or len(np.unique(row * outputs + output)) < len(row):
        raise Rejected("a row lists an output twice, or one that the network does not have")
    C = np.zeros((total, outputs))
    C[row, output] = coefficient
    return Cases(number, lower, upper, disjuncts, rows, C, file.list("row.d", total))


def forest_of(file: ProofFile, cases: Cases, sizes: tuple[int, int]) -> Forest:
    """sizes: the numbers of an input, and of neurons.

    Raises Rejected where tensors do not fit together.
    """
    inputs, neurons = sizes
    disjuncts = len(cases.rows) - 1
    ends = file.counts("disjunct.nodes", disjuncts)
    kind = file.list("node.kind", int(ends[-1]))
    if (kind > MULTIPLIERS).any():
        raise Rejected("the file has nodes of an unknown kind")
    split = kind == SPLIT
    disjunct = np.repeat(np.arange(disjuncts), np.diff(ends))
    splits = np.concatenate(([0], np.cumsum(split)))
    before = splits[ends[:-1]]
    if (np.diff(ends) != 1 + 2 * np.diff(splits[ends])).any():
        raise Rejected("a tree does not have two nodes more for every split")
    first = np.zeros(len(kind), dtype=np.int64)
    own = disjunct[split]
    first[split] = ends[own] + 1 + 2 * (np.arange(int(split.sum())) - before[own])
    if (first[split] <= np.flatnonzero(split)).any():
        raise Rejected("a node of a tree comes before what it is a part of")
    at = np.zeros(len(kind), dtype=np.int64)
    at[split] = file.list("split.at", int(split.sum()))
    of_input = split & (at < inputs)
    if (at >= inputs + neurons).any():
        raise Rejected("a tree splits a neuron that the network does not have")
    mixed = np.zeros(disjuncts, dtype=bool)
    mixed[disjunct[of_input]] = True
    by_neurons = (split & ~of_input) | (kind == MULTIPLIERS)
    if mixed[disjunct[by_neurons]].any():
        raise Rejected("a tree splits inputs, and neurons or by multipliers")
    place = np.zeros(len(kind))
    place[of_input] = file.list("split.place", int(of_input.sum()))
    which = np.zeros(len(kind), dtype=np.int64)
    by_row = (kind == 1) | (kind == 2)
    which[by_row] = file.list("leaf.row", int(by_row.sum()))
    if (which[by_row] >= np.diff(cases.rows)[disjunct[by_row]]).any():
        raise Rejected("a leaf names a row that its disjunct does not have")
    by_multipliers = kind == MULTIPLIERS
    if by_multipliers.any():
        if "leaf.refutation" not in file.arrays:
            raise Rejected("the file has leaves of multipliers, and none of these")
        which[by_multipliers] = file.list("leaf.refutation", int(by_multipliers.sum()))
    return Forest(kind, disjunct, first, at, place, which, ends[:-1])


def is_proof(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it is a proof, and not a certificate."""
    try:
        with safe_open(os.fsdecode(path), framework="numpy") as tensors:
            return KEY in (tensors.metadata() or {})
    except (SafetensorError, ValueError, OverflowError, MemoryError, OSError, TypeError):
        return False


def read_proof(path: str | os.PathLike[str]) -> ProofFile:
    """Read a file, without executing anything in it.

    Raises:
        InvalidInputError: a file that is not a proof in a format that is known here.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(
            f"check_proof(proof) got {type(path).__name__}, expected the path of a file that "
            "certify(proof=path) wrote."
        )
    name = os.fsdecode(path)
    file = ProofFile(name, {}, {})
    if not Path(name).is_file():
        raise InvalidInputError(
            f"{name!r} is not a regular file: choose one that certify(proof=path) wrote."
        )
    try:
        with safe_open(name, framework="numpy") as tensors:
            statement = _statement(file, tensors.metadata())
            names = list(tensors.keys())
            kinds = {each: tensors.get_slice(each).get_dtype() for each in names}
            _require_types(file, kinds)
            arrays = {each: tensors.get_tensor(each) for each in names}
    except (SafetensorError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise file.refuse(f"is not a safetensors file ({reason})") from error
    return ProofFile(name, statement, arrays)


def _require_types(file: ProofFile, kinds: dict[str, str]) -> None:
    expected = ALWAYS | REFUTATIONS if REFUTATIONS.keys() & kinds.keys() else ALWAYS
    for name in sorted(expected.keys() ^ kinds.keys()):
        raise file.refuse(f"{'lacks' if name in expected else 'has an unknown'} tensor {name!r}")
    for name, kind in expected.items():
        if kinds[name] not in (INTEGERS if kind == "int" else (kind,)):
            raise file.refuse(f"has {name!r} as {kinds[name]}, expected {kind}")


def _statement(file: ProofFile, metadata: dict[str, str] | None) -> dict[str, Any]:
    if metadata is None or set(metadata) != {KEY}:
        raise file.refuse(f"has metadata other than one entry {KEY!r}")
    try:
        statement = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise file.refuse(f"has a statement that is not JSON ({error})") from error
    if not isinstance(statement, dict) or type(statement.get("format")) is not int:
        raise file.refuse("has a statement without a format")
    if statement["format"] != FORMAT:
        raise InvalidInputError(
            f"{file.path!r} is a proof in format {statement['format']}, and this version of bounds "
            f"reads format {FORMAT}: check it with the version that wrote it."
        )
    for key in sorted(STATED ^ set(statement)):
        raise file.refuse(f"{'lacks' if key in STATED else 'has an unknown'} entry {key!r}")
    versions = statement["versions"]
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise file.refuse("has versions that are not text")
    for key in ("network", "digest"):
        if not isinstance(statement[key], str):
            raise file.refuse(f"has {key!r} as {type(statement[key]).__name__}, expected text")
    for key, allowed in (
        ("of", ("property", "inputs")),
        ("intermediate", ("interval", "backward")),
    ):
        if statement[key] not in allowed:
            raise file.refuse(f"has {key!r} {statement[key]!r}, expected one of {allowed}")
    if statement["slope"] not in (SLOPES if statement["intermediate"] == "backward" else (None,)):
        raise file.refuse(f"has slope {statement['slope']!r}, which is none of its recipe")
    return statement
