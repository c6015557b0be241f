"""The refutations of a file: phases, weights of rows and multipliers, unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bounds.checker.evidence import Rejected
from bounds.checker.forest import Cases
from bounds.checker.proof_file import ProofFile
from bounds.checker.uses import Uses, uses_of
from bounds.solution.proof_file import STATED

WIDTHS = {2: "multipliers.f16", 4: "multipliers.f32", 8: "multipliers.f64"}


@dataclass(frozen=True, eq=False)
class Stated:
    """Of one case, for each ReLU: neurons, and whether the upper bound of each is meant, (rows,);
    with ν at all neurons of all ReLUs, (rows, neurons). listed: which of these are given."""

    neuron: list[np.ndarray]
    upper: list[np.ndarray]
    multipliers: list[np.ndarray]
    listed: np.ndarray


@dataclass(frozen=True, eq=False)
class Refutations:
    """recipe: of each case, for its l and u; stated: what the file says of these, where it does.
    ends: of each disjunct, where its own begin and end. case, literals, weights: of each. listed:
    of each case the neurons that have a ν, (cases, neurons). multipliers: ν of each refutation at
    the neurons that its case lists. uses: of bounds."""

    recipe: np.ndarray
    stated: dict[int, Stated]
    ends: np.ndarray
    case: np.ndarray
    literals: list[np.ndarray]
    weights: list[np.ndarray]
    listed: np.ndarray
    multipliers: list[np.ndarray]
    uses: Uses

    def narrow(self, number: int, lower: np.ndarray, upper: np.ndarray) -> None:
        """l and u of all neurons, (neurons,), become those where this refutation is about."""
        literals = self.literals[number]
        active, dead = literals[literals % 2 == 1] // 2, literals[literals % 2 == 0] // 2
        lower[active], upper[dead] = np.maximum(lower[active], 0), np.minimum(upper[dead], 0)
        self.uses.narrow(number, lower, upper)


def refutations_of(file: ProofFile, cases: Cases, sizes: Sequence[int]) -> Refutations:
    """sizes: of each ReLU. Raises Rejected where tensors do not fit together."""
    neurons = sum(sizes)
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
    recipe = file.list("case.bounds", len(cases))
    if (recipe > STATED).any():
        raise Rejected("a case has a recipe for its bounds that is none")
    stated = _stated(file, listed, sizes) if (recipe == STATED).any() else {}
    needed = np.split(literals, phases[1:-1]) if total else []
    return Refutations(
        recipe,
        stated,
        ends,
        case,
        needed,
        np.split(weights, rows[1:-1]) if total else [],
        listed,
        list(_multipliers(file, listed.sum(1)[case])),
        uses_of(file, ends, needed, neurons),
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


def _stated(file: ProofFile, listed: np.ndarray, sizes: Sequence[int]) -> dict[int, Stated]:
    """Of every case."""
    if "bound.counts" not in file.arrays:
        raise Rejected("the file has cases of stated bounds, and none of these")
    first = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    ends = file.counts("bound.counts", len(listed) * len(sizes))
    literal = file.list("bound.of", int(ends[-1]))
    bits, values = file["bound.present"].astype(np.uint8), file.arrays["bound.multipliers"]
    found, octets, used = {}, 0, 0
    for case, own in enumerate(listed):
        stated = Stated([], [], [], own)
        for k, size in enumerate(sizes):
            at = case * len(sizes) + k
            part = literal[ends[at] : ends[at + 1]]
            neuron = part // 2 - first[k]
            if ((neuron < 0) | (neuron >= size)).any():
                raise Rejected("a bound is stated of a neuron of another ReLU")
            below = np.flatnonzero(own[: first[k]])
            width = -(-len(below) // 8)
            packed = bits[octets : octets + len(part) * width]
            octets += len(packed)
            if packed.ndim != 1 or len(packed) < len(part) * width:
                raise Rejected("the file has too few numbers in 'bound.present'")
            packed = packed.reshape(len(part), width)
            present = np.unpackbits(packed, axis=1, count=len(below)).astype(bool)
            some = values[used : used + int(present.sum())]
            used += len(some)
            if some.ndim != 1 or len(some) < int(present.sum()):
                raise Rejected("the file has too few numbers in 'bound.multipliers'")
            line, column = np.nonzero(present)
            nu = np.zeros((len(part), int(first[-1])))
            nu[line, below[column]] = some
            stated.neuron.append(neuron)
            stated.upper.append(part % 2 == 1)
            stated.multipliers.append(nu)
        found[case] = stated
    file.list("bound.present", octets)
    file.list("bound.multipliers", used)
    return found
