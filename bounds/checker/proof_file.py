"""Reads the file of a proof, of which nothing is trusted.

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
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.solution.certificate_file import network_digest
from bounds.solution.proof_file import FORMAT, KEY, proof_digest

STATED = {"format", "network", "of", "versions", "digest"}
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
BOUNDS = {
    "bound.counts": "int",
    "bound.of": "int",
    "bound.present": "U8",
    "bound.multipliers": "F32",
}
REFUTATIONS = {
    "case.bounds": "U8",
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
USES = {
    "refutation.bound": "int",
    "refutation.end": "F64",
    "refutation.uses": "int",
    "use.refutation": "int",
}
CARRIED = {"disjunct.forward": "U8", "node.forward": "U8"}
INTEGERS = ("U8", "U16", "U32", "U64")


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
    expected = dict(ALWAYS)
    for more in (REFUTATIONS, BOUNDS, USES, CARRIED):
        if more.keys() & kinds.keys():
            expected |= more
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
    if statement["of"] not in ("property", "inputs"):
        raise file.refuse(f"has 'of' {statement['of']!r}, expected 'property' or 'inputs'")
    return statement
