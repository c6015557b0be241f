"""`bounds.check`: whether the claims of a certificate follow from the evidence in its file.

This is the proof, step by step. It shares no code with the solver: only the format of the file and
the readers of models are the same. All that is claimed to hold is computed in ball arithmetic, so
that what is proved holds for real numbers, whatever the rounding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from bounds.checker.arithmetic import (
    ball_precision,
    balls,
    proved_above,
    proved_below,
    rationals,
)
from bounds.checker.dual import row_minimum
from bounds.checker.evidence import Evidence, Rejected
from bounds.checker.exact import optima, require_small
from bounds.checker.file import CertificateFile, read_certificate
from bounds.checker.graph import Graph
from bounds.checker.input_sets import contains, require_points
from bounds.checker.neuron_bounds import prove_bounds
from bounds.checker.primal import row_values
from bounds.network.graph import Network
from bounds.read.load import load


@dataclass(frozen=True)
class Rejection:
    """A claim that does not follow. input, row: of which LP; None where it concerns all."""

    reason: str
    input: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        where = [f"{name} {value}" for name, value in self._where if value is not None]
        return ": ".join(([", ".join(where)] if where else []) + [self.reason])

    @property
    def _where(self) -> tuple[tuple[str, int | None], ...]:
        return ("input", self.input), ("row", self.row)


@dataclass(frozen=True, eq=False)
class Check:
    """What was proved, in arrays of shape (batch, rows); (0, 0) where the file as a whole was
    rejected.

    lower, upper: lower ≤ LP optimum ≤ upper holds for real numbers. −inf and inf where nothing was
        proved, because the evidence was rejected, or upper because there is none.
    claimed_lower, claimed_upper: what the file says.
    optimum: with `exact`, the LP optima as fractions.Fraction, None where not found.
    rejections: every claim that does not follow, with the reason.
    trusted: whether l and u were taken for granted. Then the bounds hold for the LP that these
        make, and say nothing about the network.
    partial: whether the relaxation is split, so that the bounds hold for the inputs that are on its
        sides, and say nothing about others.
    statement: the statement of the file, see `bounds.solution.certificate_file`.

    >>> claims, nothing = np.zeros((1, 2)), np.full((1, 2), np.inf)
    >>> proved = Check(claims, claims + 1, claims, claims + 1, None, (), False, {})
    >>> proved.accepted, proved.gap.round(9).tolist()
    (True, [[1.0, 1.0]])
    """

    lower: np.ndarray
    upper: np.ndarray
    claimed_lower: np.ndarray
    claimed_upper: np.ndarray
    optimum: np.ndarray | None
    rejections: tuple[Rejection, ...]
    trusted: bool
    statement: dict[str, Any]
    partial: bool = False

    @property
    def accepted(self) -> bool:
        """Whether every claim of the file was proved."""
        return not self.rejections

    @property
    def gap(self) -> np.ndarray:
        """How far lower can be from the LP optimum, rounded up; inf where a bound is missing."""
        with np.errstate(invalid="ignore"):
            return np.nextafter(self.upper - self.lower, np.inf)

    @property
    def verified(self) -> np.ndarray:
        """For each input, whether every row of the network is proved positive on the input set."""
        whole = not self.trusted and not self.partial
        return np.asarray((self.lower > 0).all(1) & whole)


def check(
    certificate: str | os.PathLike[str],
    model: Network | str | os.PathLike[str],
    *,
    precision: int = 128,
    exact: bool = False,
    trust_bounds: bool = False,
) -> Check:
    """Prove the claims of a saved certificate, or say which of them do not follow.

    Args:
        certificate: a file that `Certificate.save` wrote.
        model: the network, or the path of a `torch.export` archive or of an ONNX file.
        precision: bits of the ball arithmetic.
        exact: also solve every LP in rational numbers, which takes small ones on boxes or ℓ1 balls.
        trust_bounds: take l and u as they are, and prove statements about the LP only.

    Raises:
        InvalidInputError: a file that is not a certificate, or options that cannot be used.
        UnsupportedLayerError: a network with an operation that is not known to the checker.
        BoundsError: python-flint is missing.

    >>> import torch, bounds
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()).double()
    >>> network = bounds.from_torch(model, (2,)).detach()
    >>> ball = bounds.Ball(torch.zeros(1, 2, dtype=torch.float64), radius=1.0)
    >>> solution = bounds.solve(bounds.relax(network, ball, bounds.margins(0, classes=2)))
    >>> solution.certificate.save("proof.safetensors")
    >>> bounds.check("proof.safetensors", network).accepted
    True
    """
    with ball_precision(precision):
        file = read_certificate(certificate)
        network = model if isinstance(model, Network) else load(model, dtype=torch.float64)
        try:
            file.require_unchanged()
            file.require_network(network)
        except Rejected as rejected:
            return _rejected(file, str(rejected), trust_bounds)
        evidence = file.evidence(network)
        graph = Graph(network, balls())
        if exact:
            require_small(graph, evidence)
        proofs = [prove(graph, each, file.statement, trusted=trust_bounds) for each in evidence]
        optimum = _optima(network, evidence, proofs) if exact else None
    rejections = [
        Rejection(reason, index, row)
        for index, proof in enumerate(proofs)
        for row, reason in proof.rejections
    ]
    return Check(
        lower=np.stack([proof.lower for proof in proofs]),
        upper=np.stack([proof.upper for proof in proofs]),
        claimed_lower=np.stack([each.lower for each in evidence]),
        claimed_upper=np.stack([each.upper for each in evidence]),
        optimum=optimum,
        rejections=tuple(rejections),
        trusted=trust_bounds,
        statement=file.statement,
        partial=any(each.is_split for each in evidence),
    )


@dataclass(frozen=True)
class Proof:
    """What is proved of one input, (rows,) each, and which claims are not: row (None: of all) and
    reason."""

    lower: np.ndarray
    upper: np.ndarray
    rejections: list[tuple[int | None, str]]


def prove(graph: Graph, evidence: Evidence, statement: dict[str, Any], *, trusted: bool) -> Proof:
    """The proof for one input; where sides of neurons are kept, for that part of its set.

    1. The input set has a point, or everything would be true of it.
    2. The bounds l, u of the ReLUs hold for every point of the input set, so that the relaxation
       has every point of the network; so do sides, for the points that are on them. (Trusted ones
       are part of the relaxation by definition.)
    3. The multipliers prove a lower bound of each row on the relaxation.
    4. x, which lies in the input set, and z give a point of the relaxation: the value of the row
       there is an upper bound of its optimum.
    """
    rows = len(evidence.d)
    try:
        require_points(evidence.input_set)
        if not trusted:
            prove_bounds(graph, evidence, _slope(statement))
    except Rejected as rejected:
        return Proof(np.full(rows, -np.inf), np.full(rows, np.inf), [(None, str(rejected))])

    d = balls().numbers(evidence.d)
    least = d + row_minimum(
        graph,
        evidence.input_set,
        evidence.kept,
        len(graph.nodes) - 1,
        balls().numbers(evidence.C),
        lambda k, arriving: balls().numbers(evidence.multipliers[k]),
    )
    values, feasible = row_values(graph, evidence, trusted=trusted)
    values = values + d

    rejections: list[tuple[int | None, str]] = []
    upper = np.full(rows, np.inf)
    for row in range(rows):
        below, above = evidence.lower[row], evidence.upper[row]
        if below > -np.inf and not least[row] >= below:
            rejections.append((row, _claimed("lower", below, proved_below(least[row]))))
        if not contains(evidence.input_set, evidence.x[row]):
            reason = "its point x does not lie in the input set"
        elif not feasible[row]:
            reason = "its point is not proved to keep to the l and u that are trusted, or the sides"
        else:
            upper[row] = proved_above(values[row])
            reason = _claimed("upper", above, upper[row])
        if above < np.inf and not (upper[row] < np.inf and values[row] <= above):
            rejections.append((row, reason))
    return Proof(np.array([proved_below(ball) for ball in least]), upper, rejections)


def _optima(network: Network, evidence: list[Evidence], proofs: list[Proof]) -> np.ndarray:
    """The LP optima, (batch, rows); None for inputs whose l and u are rejected. Claims that lie on
    the wrong side of them join the rejections."""
    graph = Graph(network, rationals())
    optimum = np.full((len(proofs), len(evidence[0].d)), None, dtype=object)
    for index, (each, proof) in enumerate(zip(evidence, proofs, strict=True)):
        if any(row is None for row, _ in proof.rejections):
            continue
        for row, value in enumerate(optima(graph, each)):
            optimum[index, row] = value
            below, above = float(each.lower[row]), float(each.upper[row])
            if value is None and each.is_split:
                continue  # every lower bound holds, and no point proves an upper one
            if value is None:
                proof.rejections.append((row, "the l and u that are trusted leave its LP no point"))
            elif below > -np.inf and Fraction(below) > value:
                reason = f"the lower bound {below!r} lies above the LP optimum, {float(value)!r}"
                proof.rejections.append((row, reason))
            elif above < np.inf and Fraction(above) < value:
                reason = f"the upper bound {above!r} lies below the LP optimum, {float(value)!r}"
                proof.rejections.append((row, reason))
    return optimum


def _slope(statement: dict[str, Any]) -> str | None:
    """The rule by which l and u follow again; None where intervals are enough."""
    if statement["intermediate"] not in ("interval", "backward"):
        raise Rejected(
            f"its bounds l and u are {statement['intermediate']}, and the file has no proof of "
            'them: relax with intermediate="backward", or prove statements about the LP only with '
            "--trust-bounds (trust_bounds=True)"
        )
    slope: str | None = statement["slope"]
    return slope


def _claimed(end: str, claimed: float, proved: float) -> str:
    return f"the {end} bound is claimed as {float(claimed)!r}, and {float(proved)!r} is proved"


def _rejected(file: CertificateFile, reason: str, trusted: bool) -> Check:
    """Of a file of whose contents nothing can be said."""
    nothing = np.zeros((0, 0))
    return Check(
        lower=nothing,
        upper=nothing,
        claimed_lower=nothing,
        claimed_upper=nothing,
        optimum=None,
        rejections=(Rejection(reason),),
        trusted=trusted,
        statement=file.statement,
    )
