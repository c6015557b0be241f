"""What proves an "unsat": how every disjunct of every case is excluded, and the file of it.

`bounds.solution.proof_file` documents the file; `bounds check` proves it again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bounds.dual.fixed_slope import RULES
from bounds.errors import InvalidInputError
from bounds.intermediate.kept import Kept
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.search.refutation_columns import ends_of, refutation_columns
from bounds.search.relu_tree import ReluTree, needed
from bounds.search.tree import CUT as LEAVES_NOTHING
from bounds.search.tree import OPEN, Nodes, Tree
from bounds.search.tree import SPLIT as WAS_SPLIT
from bounds.solution.certificate_file import network_digest
from bounds.solution.proof_file import (
    ADAPTIVE,
    BACKWARD_ADAPTIVE,
    BACKWARD_FIXED,
    CUT,
    FIXED,
    INTERVAL,
    MULTIPLIERS,
    SPLIT,
    STATED,
    whole_numbers,
    write_proof,
)

KINDS = {"fixed": FIXED, "adaptive": ADAPTIVE}
RECIPES = {
    ("interval", None): INTERVAL,
    ("backward", "fixed"): BACKWARD_FIXED,
    ("backward", "adaptive"): BACKWARD_ADAPTIVE,
}


@dataclass(frozen=True)
class Leaf:
    """The backward pass from one of the disjunct's rows, by one of `RULES`, is positive on the
    whole case."""

    rule: str
    row: int


@dataclass(frozen=True, eq=False)
class Branches:
    """The tree of boxes below one of the roots. forward: whether their l and u were carried forward
    first."""

    tree: Tree
    root: int
    forward: bool = False


Exclusion = Leaf | Branches | ReluTree


@dataclass(frozen=True, eq=False)
class CaseProof:
    """relaxation: of the case, with all of its rows, in float64; its l and u are found anew by the
    recipe that it names, and from what is stated, which goes with "optimised"
    (`bounds.search.root`). disjuncts: the rows of each, one after another. excluded: how each
    is."""

    relaxation: Relaxation
    disjuncts: Sequence[Sequence[int]]
    excluded: Sequence[Exclusion]
    stated: Sequence[Kept] | None = None

    @property
    def recipe(self) -> int:
        """Raises InvalidInputError for bounds whose proof the file has no place for."""
        how = self.relaxation.intermediate, self.relaxation.slope
        if how in RECIPES:
            return RECIPES[how]
        if how == ("optimised", None) and self.stated is not None:
            return STATED
        raise InvalidInputError(
            f"a proof got bounds of intermediate={how[0]!r}, expected 'interval' or 'backward', "
            "which a checker can find anew, or those of bounds.search.root: relax with these."
        )


@dataclass(frozen=True)
class ProofFile:
    """path: of the file. bytes: its size. leaves: of all trees in it.

    >>> ProofFile("proof.safetensors", 2048, 16).bytes_a_leaf
    128.0
    """

    path: str
    bytes: int
    leaves: int

    @property
    def bytes_a_leaf(self) -> float:
        return self.bytes / self.leaves


class Proof:
    """What is proved so far: cases by their number, in the columns of the file."""

    def __init__(self) -> None:
        self._lists: dict[str, list[np.ndarray]] = {}
        self.leaves = 0

    def __bool__(self) -> bool:
        return bool(self._lists)

    def save(self, path: str | os.PathLike[str], network: Network, *, of: str) -> ProofFile:
        """Write the file. of: "property" or "inputs".

        Raises InvalidInputError for a path that cannot be written.
        """
        statement = {"network": network_digest(network), "of": of}
        size = write_proof(path, self._arrays(), statement)
        return ProofFile(os.fsdecode(path), size, self.leaves)

    def add(self, number: int, case: CaseProof) -> None:
        """One more case.

        Raises InvalidInputError for bounds whose proof the file has no place for.
        """
        whole = case.relaxation
        self._note("case.bounds", np.array([case.recipe], dtype=np.uint8))
        self._note("case.number", [number])
        self._note("case.lower", whole.input_set.lower.cpu().numpy())
        self._note("case.upper", whole.input_set.upper.cpu().numpy())
        self._note("case.disjuncts", [len(case.disjuncts)])
        unstable = np.concatenate(
            [k.unstable.cpu().numpy().ravel() for k in whole.relu_bounds] or [np.zeros(0, bool)]
        )
        self._note("case.neurons", np.packbits(unstable)[None])
        self._stated(case, [unstable[a:b] for a, b in pairwise(ends_of(whole))])
        trees: dict[int, list[Nodes]] = {}
        C, d = whole.C[0].flatten(1).cpu().numpy(), whole.d[0].cpu().numpy()
        for rows, excluded in zip(case.disjuncts, case.excluded, strict=True):
            self._note("disjunct.rows", [len(rows)])
            forward = isinstance(excluded, Branches) and excluded.forward
            self._note("disjunct.forward", np.array([forward], dtype=np.uint8))
            for row in rows:
                at = C[row].nonzero()[0]
                self._note("row.terms", [len(at)])
                self._note("row.output", at)
                self._note("row.coefficient", C[row, at])
                self._note("row.d", d[[row]])
            if isinstance(excluded, Leaf):
                self._tree([KINDS[excluded.rule]])
                self._note("leaf.row", [excluded.row])
            elif isinstance(excluded, Branches):
                tree = excluded.tree
                if id(tree) not in trees:
                    trees[id(tree)] = in_order(tree)
                self._boxes(trees[id(tree)][excluded.root], len(rows))
            if isinstance(excluded, ReluTree):
                self._relus(excluded, whole, rows, np.flatnonzero(unstable))
            else:
                self._note("disjunct.refutations", [0])

    def _tree(self, kinds: object, forward: np.ndarray | bool = False) -> None:
        kind = np.asarray(kinds, dtype=np.uint8)
        self._note("node.forward", np.broadcast_to(forward, kind.shape))
        self._note("disjunct.nodes", [len(kind)])
        self._note("node.kind", kind)
        self.leaves += int((kind != SPLIT).sum())

    def _boxes(self, nodes: Nodes, rows: int) -> None:
        kinds = {WAS_SPLIT: SPLIT, LEAVES_NOTHING: CUT}
        kinds |= {number: KINDS[name] for number, name in enumerate(RULES)}
        kind = np.zeros(len(nodes.rule), dtype=np.uint8)
        for rule, stands_for in kinds.items():
            kind[nodes.rule == rule] = stands_for
        self._tree(kind, nodes.forward)
        split = kind == SPLIT
        self._note("split.at", nodes.coordinate[split])
        self._note("split.place", nodes.place[split])
        # Shorter disjuncts repeated their last row.
        by_row = (kind == FIXED) | (kind == ADAPTIVE)
        self._note("leaf.row", nodes.row[by_row].clip(max=rows - 1))

    def _relus(
        self, tree: ReluTree, whole: Relaxation, rows: Sequence[int], listed: np.ndarray
    ) -> None:
        first = ends_of(whole)
        inputs = whole.input_set.lower[0].numel()
        kinds, at, leaves, level = [], [], [], [0]
        for node in level:  # which grows
            if node in tree.splits:
                (k, i), active, dead = tree.splits[node]
                kinds.append(SPLIT)
                at.append(inputs + first[k] + i)
                level += [dead, active]
            else:
                kinds.append(MULTIPLIERS)
                leaves.append(tree.leaves[node])
        self._tree(kinds)
        self._note("split.at", at)
        numbers = needed(tree.refutations, leaves)
        self._note("leaf.refutation", np.searchsorted(numbers, leaves))
        self._note("disjunct.refutations", [len(numbers)])
        for name, values in refutation_columns(tree.refutations, numbers, whole, rows, listed):
            self._note(name, values)

    def _stated(self, case: CaseProof, listed: Sequence[np.ndarray]) -> None:
        """The bounds that have multipliers of their own, ReLU by ReLU."""
        first, counts = ends_of(case.relaxation), np.zeros(len(listed), dtype=np.int64)
        for each in case.stated or ():
            k = each.position
            counts[k] += len(each.neuron)
            self._note("bound.of", 2 * (first[k] + each.neuron.numpy()) + (each.sign.numpy() < 0))
            nothing = np.zeros((len(each.neuron), 0))
            nu = [
                each.multipliers[j].numpy()[:, own]
                if j in each.multipliers
                else np.zeros((len(nothing), int(own.sum())))
                for j, own in enumerate(listed[:k])
            ]
            flat = np.concatenate([nothing, *nu], 1).astype(np.float32)
            self._note("bound.present", np.packbits(flat != 0, axis=1).ravel())
            self._note("bound.multipliers", flat[flat != 0])
        self._note("bound.counts", counts)
        for name, kind in (("of", "i8"), ("present", "u1"), ("multipliers", "f4")):
            self._note(f"bound.{name}", np.zeros(0, kind))

    def _note(self, name: str, values: object) -> None:
        array = np.asarray(values, np.int64 if isinstance(values, list) else None)
        self._lists.setdefault(name, []).append(array)

    def _arrays(self) -> dict[str, np.ndarray]:
        """The tensors by name; those of refutations, of their bounds, of what is stated and of
        what is carried forward only where there is any."""
        floats: dict[str, str] = {"row.coefficient": "f8", "split.place": "f8"}
        of_refutations = {"case.bounds", "case.neurons", "disjunct.refutations"}
        of_bounds = {"bound.counts", "bound.of", "bound.present", "bound.multipliers"}
        of_uses = {"refutation.bound", "refutation.end", "refutation.uses", "use.refutation"}
        left_out = of_refutations | of_bounds | of_uses
        if "refutation.bytes" in self._lists:
            left_out -= of_refutations
            floats |= {"multipliers.f16": "f2", "multipliers.f32": "f4", "multipliers.f64": "f8"}
            if any(STATED in part for part in self._lists["case.bounds"]):
                left_out -= of_bounds
            if any(part.any() for part in self._lists["refutation.bound"]):
                left_out -= of_uses
        if not any(part.any() for part in self._lists.get("disjunct.forward", [])):
            left_out |= {"disjunct.forward", "node.forward"}
        lists = {name: parts for name, parts in self._lists.items() if name not in left_out}
        found = {name: np.concatenate(parts) for name, parts in lists.items()}
        if "node.forward" in found:
            found["node.forward"] = np.packbits(found["node.forward"])
        for name in floats.keys() - found.keys():
            found[name] = np.zeros(0, floats[name])
        for name in {"split.at", "leaf.row"} - found.keys():
            found[name] = np.zeros(0, np.int64)
        octets = {"node.kind", "refutation.bytes", "case.neurons", "case.bounds"}
        octets |= {"multipliers.present", "bound.present", "disjunct.forward", "node.forward"}
        return {
            name: whole_numbers(array)
            if array.dtype.kind in "iu" and name not in octets
            else array.astype(floats.get(name, array.dtype))
            for name, array in found.items()
        }


def in_order(tree: Tree) -> list[Nodes]:
    """The nodes of each root's tree in the order of the file: level by level, children in the
    order of their parents."""
    nodes = tree.nodes
    levels = [np.arange(tree.roots)]
    labels = [levels[0]]
    while len(levels[-1]):
        split = nodes.rule[levels[-1]] == WAS_SPLIT
        parents = levels[-1][split]
        levels.append(np.stack((nodes.low[parents], nodes.high[parents]), 1).ravel())
        labels.append(labels[-1][split].repeat(2))
    order, label = np.concatenate(levels), np.concatenate(labels)
    assert not (nodes.rule[order] == OPEN).any(), "a tree with an open node proves nothing"
    order = order[label.argsort(kind="stable")]
    ends = np.bincount(label, minlength=tree.roots).cumsum()[:-1]
    return [nodes.take(part) for part in np.split(order, ends)]
