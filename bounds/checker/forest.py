"""The cases of a file and their trees, unpacked: what does not fit together is `Rejected`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds.checker.evidence import Rejected
from bounds.checker.proof_file import ProofFile
from bounds.network.graph import Network
from bounds.solution.proof_file import ADAPTIVE, FIXED, MULTIPLIERS, SPLIT

#: How the l and u of a node are found: by backward passes, by these after what is carried forward,
#: or by the latter alone.
BACKWARD, BOTH, FORWARD = range(3)
#: Rows times outputs: what an edited file may make this reserve.
NUMBERS = 2**28


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
    disjunct, or the refutation of its disjunct. how: its l and u are found. roots: of each
    disjunct."""

    kind: np.ndarray
    disjunct: np.ndarray
    first: np.ndarray
    at: np.ndarray
    place: np.ndarray
    which: np.ndarray
    how: np.ndarray
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
    by_row = (kind == FIXED) | (kind == ADAPTIVE)
    which[by_row] = file.list("leaf.row", int(by_row.sum()))
    if (which[by_row] >= np.diff(cases.rows)[disjunct[by_row]]).any():
        raise Rejected("a leaf names a row that its disjunct does not have")
    by_multipliers = kind == MULTIPLIERS
    if by_multipliers.any():
        if "leaf.refutation" not in file.arrays:
            raise Rejected("the file has leaves of multipliers, and none of these")
        which[by_multipliers] = file.list("leaf.refutation", int(by_multipliers.sum()))
    how = _how(file, disjunct, disjuncts)
    return Forest(kind, disjunct, first, at, place, which, how, ends[:-1])


def _how(file: ProofFile, disjunct: np.ndarray, disjuncts: int) -> np.ndarray:
    """Of each node, by the disjunct that it is of."""
    how = np.zeros(len(disjunct), dtype=np.uint8)
    if "disjunct.forward" in file.arrays:
        forward = file.list("disjunct.forward", disjuncts) > 0
        alone = np.unpackbits(file.arrays["node.forward"].ravel())
        if file.arrays["node.forward"].shape != (-(-len(how) // 8),):
            raise Rejected("the file has 'node.forward' of another number of nodes")
        how[forward[disjunct]] = BOTH
        how[forward[disjunct] & (alone[: len(how)] > 0)] = FORWARD
    return how
