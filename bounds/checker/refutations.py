"""The refutations of a file: phases, weights of rows and multipliers, unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bounds.checker.evidence import Rejected
from bounds.checker.forest import Cases
from bounds.checker.proof_file import ProofFile

WIDTHS = {2: "multipliers.f16", 4: "multipliers.f32", 8: "multipliers.f64"}


@dataclass(frozen=True, eq=False)
class Refutations:
    """ends: of each disjunct, where its own begin and end. case, literals, weights: of each.
    listed: of each case the neurons that have a ν, (cases, neurons). multipliers: ν of each
    refutation at the neurons that its case lists."""

    ends: np.ndarray
    case: np.ndarray
    literals: list[np.ndarray]
    weights: list[np.ndarray]
    listed: np.ndarray
    multipliers: list[np.ndarray]


def refutations_of(file: ProofFile, cases: Cases, neurons: int) -> Refutations:
    """Raises Rejected where tensors do not fit together."""
    disjuncts = len(cases.rows) - 1
    ends = file.counts("disjunct.refutations", disjuncts)
    total = int(ends[-1])
    disjunct = np.repeat(np.arange(disjuncts), np.diff(ends))
    case = cases.of_disjunct[disjunct]
    phases = file.counts("refutation.phases", total)
    literals = file.list("phase.literal", int(phases[-1]))
    if (literals >= 2 * neurons).any():
        raise Rejected("a refutation needs a phase of a neuron that the network does not have")
    rows = np.concatenate(([0], np.cumsum(np.diff(cases.rows)[disjunct])))
    weights = file.list("refutation.weights", int(rows[-1]))
    if (weights < 0).any():
        raise Rejected("a refutation has a negative weight")
    bits = file["case.neurons"]
    if bits.shape != (len(cases), -(-neurons // 8)):
        raise Rejected(f"the file has 'case.neurons' of shape {bits.shape}")
    listed = np.unpackbits(bits.astype(np.uint8), axis=1, count=neurons).astype(bool)
    return Refutations(
        ends,
        case,
        np.split(literals, phases[1:-1]) if total else [],
        np.split(weights, rows[1:-1]) if total else [],
        listed,
        list(_multipliers(file, listed.sum(1)[case])),
    )


def _multipliers(file: ProofFile, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Of each refutation, given how many neurons its case lists."""
    width = file.list("refutation.bytes", len(counts))
    if not np.isin(width, list(WIDTHS)).all():
        raise Rejected("a refutation has multipliers of a width that is none")
    ends = np.concatenate(([0], np.cumsum(-(-counts // 8))))
    bits = file.list("multipliers.present", int(ends[-1])).astype(np.uint8)
    used = dict.fromkeys(WIDTHS, 0)
    values = {each: file.arrays[name] for each, name in WIDTHS.items()}
    for number, count in enumerate(counts.tolist()):
        own = bits[ends[number] : ends[number + 1]]
        present = np.unpackbits(own, count=count).astype(bool)
        kind, found = int(width[number]), np.zeros(count)
        part = values[kind][used[kind] : used[kind] + int(present.sum())]
        if part.ndim != 1 or len(part) < int(present.sum()):
            raise Rejected(f"the file has too few numbers in {WIDTHS[kind]!r}")
        found[present] = part
        used[kind] += len(part)
        yield found
    for kind, name in WIDTHS.items():
        file.list(name, used[kind])
