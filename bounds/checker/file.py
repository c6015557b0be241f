"""Reads the file of a certificate, of which nothing is trusted, into the evidence of each input.

`bounds/solution/certificate_file.py` documents the format. A file that is not in it is refused
(InvalidInputError); one that is, but whose contents were changed or belong to another network, is
`Rejected`, and so is whatever the proof does not bear out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bounds.checker.evidence import Evidence, InputSet, Neurons, Rejected
from bounds.errors import InvalidInputError
from bounds.network.graph import Network, ReluNode
from bounds.solution.certificate_file import FORMAT, KEY, content_digest, network_digest

SETS = ("box", "l1", "l2")
INTERMEDIATE = ("interval", "backward", "optimised", "lp", "given")
SLOPES = ("fixed", "adaptive")
STATED = {"format", "network", "input_set", "intermediate", "slope", "method", "versions", "digest"}


@dataclass(frozen=True)
class CertificateFile:
    """A file whose statement is in the format; its tensors are float64, and unchecked otherwise."""

    path: str
    statement: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def require_unchanged(self) -> None:
        if content_digest(self.statement, self.arrays) != self.statement["digest"]:
            raise Rejected(
                "the file was edited or damaged since it was saved: its contents do not have the "
                "digest that it states"
            )

    def require_network(self, network: Network) -> None:
        if network_digest(network) != self.statement["network"]:
            raise Rejected(
                "the certificate is of another network: the digest of the model, read in float64, "
                "is not the one that it states; if the model is the right one, read it with "
                "dtype=torch.float64 before it is relaxed"
            )

    def evidence(self, network: Network) -> list[Evidence]:
        """What the file says of each input.

        Raises:
            InvalidInputError: tensors that are missing, not in the format or of the wrong shape,
                and numbers that are NaN or infinite.
        """
        shapes = self._shapes(network)
        self._require_names(shapes)
        for name, shape in shapes.items():
            self._require(name, shape)
        counts = self._require_unstable(network)
        return [self._of_input(index, network, counts) for index in range(len(self.arrays["C"]))]

    def _shapes(self, network: Network) -> dict[str, tuple[int, ...]]:
        """Of each tensor but those of the unstable neurons, given those of C."""
        C = self.arrays.get("C", np.zeros(()))
        batch, rows = C.shape[:2] if C.ndim > 1 else (0, 0)
        if batch == 0 or rows == 0:
            raise self.refuse("has no tensor 'C' with at least one input and one row")
        point = network.nodes[0].shape
        shapes = {
            "input.lower": (batch, *point),
            "input.upper": (batch, *point),
            "C": (batch, rows, *network.nodes[-1].shape),
            "d": (batch, rows),
            "x": (batch, rows, *point),
            "lower": (batch, rows),
            "upper": (batch, rows),
        }
        if self.statement["input_set"] != "box":
            shapes |= {"input.centre": (batch, *point), "input.radius": (batch,)}
        for k, node in enumerate(_relus(network)):
            names = ("lower", "upper", "side") if self._is_split else ("lower", "upper")
            shapes |= {f"relu.{k}.{name}": (batch, *node.shape) for name in names}
        return shapes

    @property
    def _is_split(self) -> bool:
        return any(name.startswith("relu.") and name.endswith(".side") for name in self.arrays)

    def _require_names(self, shapes: dict[str, tuple[int, ...]]) -> None:
        relus = sum(name.startswith("relu.") and name.endswith(".upper") for name in shapes)
        of_unstable = {f"{kind}.{k}" for kind in ("multipliers", "z") for k in range(relus)}
        expected = set(shapes) | of_unstable
        for name in sorted(expected ^ set(self.arrays)):
            raise self.refuse(
                f"{'lacks' if name in expected else 'has an unknown'} tensor {name!r}"
            )

    def _require_unstable(self, network: Network) -> list[np.ndarray]:
        """The number of unstable neurons of each ReLU and input, (batch,), once shapes agree."""
        rows, counts = self.arrays["C"].shape[1], []
        for k in range(len(_relus(network))):
            lower, upper = self.arrays[f"relu.{k}.lower"], self.arrays[f"relu.{k}.upper"]
            unstable = Neurons(lower, upper).unstable.reshape(len(lower), -1)
            if self._is_split:
                side = self.arrays[f"relu.{k}.side"]
                kept = side.reshape(unstable.shape) != 0
                if not np.isin(side, (-1, 0, 1)).all() or (kept & ~unstable).any():
                    raise self.refuse(
                        f"has numbers in 'relu.{k}.side' other than 1 and −1 of unstable neurons "
                        "and 0"
                    )
            counts.append(unstable.sum(1))
            for kind in ("multipliers", "z"):
                self._require(f"{kind}.{k}", (int(unstable.sum()), rows))
        return counts

    def _require(self, name: str, shape: tuple[int, ...]) -> None:
        array = self.arrays[name]
        if array.shape != shape:
            raise self.refuse(f"has {name!r} of shape {array.shape}, expected {shape}")
        claims_nothing = {"lower": -np.inf, "upper": np.inf}
        finite = np.isfinite(array) | (array == claims_nothing.get(name, 0.0))
        if not finite.all():
            raise self.refuse(f"has {array[~finite][0]} in {name!r}")

    def _of_input(self, index: int, network: Network, counts: list[np.ndarray]) -> Evidence:
        def flat(name: str) -> np.ndarray:
            return self.arrays[name][index].ravel()

        def row_by_row(name: str) -> np.ndarray:
            return self.arrays[name][index].reshape(self.arrays["C"].shape[1], -1)

        def of_unstable(name: str, k: int) -> np.ndarray:
            """The input's part of a list, spread over the neurons; (rows, numbers)."""
            unstable = relus[k].unstable
            first = int(counts[k][:index].sum())
            spread = np.zeros((self.arrays["C"].shape[1], len(unstable)))
            spread[:, unstable] = self.arrays[name][first : first + int(counts[k][index])].T
            return spread

        kind = self.statement["input_set"]
        lower, upper = flat("input.lower"), flat("input.upper")
        relus = tuple(
            Neurons(
                flat(f"relu.{k}.lower"),
                flat(f"relu.{k}.upper"),
                flat(f"relu.{k}.side") if self._is_split else None,
            )
            for k in range(len(counts))
        )
        return Evidence(
            input_set=InputSet(
                kind,
                lower,
                upper,
                lower if kind == "box" else flat("input.centre"),
                0.0 if kind == "box" else float(self.arrays["input.radius"][index]),
            ),
            C=row_by_row("C"),
            d=flat("d"),
            relus=relus,
            multipliers=tuple(of_unstable(f"multipliers.{k}", k) for k in range(len(relus))),
            x=row_by_row("x"),
            z=tuple(of_unstable(f"z.{k}", k) for k in range(len(relus))),
            lower=flat("lower"),
            upper=flat("upper"),
        )

    def refuse(self, found: str) -> InvalidInputError:
        """The error that says so."""
        return InvalidInputError(
            f"{self.path!r} is not a certificate that can be checked: it {found}; save it again "
            "with solution.certificate.save(path)."
        )


def read_certificate(path: str | os.PathLike[str]) -> CertificateFile:
    """Read a file, without executing anything in it.

    Raises:
        InvalidInputError: a file that is not a certificate in a format that is known here.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(
            f"check(certificate) got {type(path).__name__}, expected the path of a file that "
            "solution.certificate.save wrote."
        )
    name = os.fsdecode(path)
    file = CertificateFile(name, {}, {})
    if not Path(name).is_file():
        raise InvalidInputError(
            f"{name!r} is not a regular file: choose one that solution.certificate.save wrote."
        )
    try:
        with safe_open(name, framework="numpy") as tensors:
            metadata = tensors.metadata()
            names = tensors.keys()
            kinds = {tensor: tensors.get_slice(tensor).get_dtype() for tensor in names}
            arrays = {
                tensor: tensors.get_tensor(tensor) for tensor in names if kinds[tensor] == "F64"
            }
    except (SafetensorError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise file.refuse(f"is not a safetensors file ({reason})") from error
    for tensor in kinds.keys() - arrays.keys():
        raise file.refuse(f"has {tensor!r} as {kinds[tensor]}, expected F64")
    return CertificateFile(name, _statement(file, metadata), arrays)


def _statement(file: CertificateFile, metadata: dict[str, str] | None) -> dict[str, Any]:
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
            f"{file.path!r} is a certificate in format {statement['format']}, and this version of "
            f"bounds reads format {FORMAT}: check it with the version that wrote it."
        )
    for key in sorted(STATED ^ set(statement)):
        raise file.refuse(f"{'lacks' if key in STATED else 'has an unknown'} entry {key!r}")
    versions = statement["versions"]
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise file.refuse("has versions that are not text")
    for key in ("network", "method", "digest"):
        if not isinstance(statement[key], str):
            raise file.refuse(f"has {key!r} as {type(statement[key]).__name__}, expected text")
    slope = statement["slope"]
    for key, allowed in (("input_set", SETS), ("intermediate", INTERMEDIATE)):
        if statement[key] not in allowed:
            raise file.refuse(f"has {key!r} {statement[key]!r}, expected one of {allowed}")
    if slope not in (SLOPES if statement["intermediate"] in ("backward", "lp") else (None,)):
        raise file.refuse(f"has slope {slope!r} with intermediate {statement['intermediate']!r}")
    return statement


def _relus(network: Network) -> list[ReluNode]:
    return [node for node in network.nodes if isinstance(node, ReluNode)]
