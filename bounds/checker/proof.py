"""`bounds.check_proof`: whether a file proves that a network has no unsafe output.

This is the proof, step by step. It shares no code with the search: only the format of the file and
the readers of models and properties are the same. It computes in float64 with all rounding taken
off (`bounds.checker.batch`), and in balls where that does not suffice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from bounds.checker.arithmetic import ball_precision, balls, rationals, require_precision
from bounds.checker.boxes import BoxTrees, Open
from bounds.checker.certificate import Rejection
from bounds.checker.closely import LEAVES, SecondLook, require_small
from bounds.checker.coverage import require_covered
from bounds.checker.evidence import Rejected
from bounds.checker.floats import require_gradual_underflow
from bounds.checker.forest import Cases, Forest, cases_of, forest_of
from bounds.checker.passes import Passes
from bounds.checker.proof_file import ProofFile, read_proof
from bounds.checker.refutations import refutations_of
from bounds.checker.relus import ReluTrees
from bounds.network.graph import Network
from bounds.read.load import load
from bounds.read.vnnlib import read_vnnlib
from bounds.read.vnnlib.property import Property
from bounds.solution.proof_file import MULTIPLIERS, SPLIT


@dataclass(frozen=True, eq=False)
class ProvedCase:
    """One case of a file: that no input of [lower, upper] has an output at which all rows
    ⟨C, y⟩ + d of one of the disjuncts are at most 0. C: (rows, outputs) and d: (rows,), of each
    disjunct. leaves: of its trees. proved: whether that follows.

    >>> box = np.zeros(2), np.ones(2)
    >>> rows = (np.array([[1.0, -1.0]]), np.zeros(1)), (np.array([[1.0, 0.0]]), np.zeros(1))
    >>> ProvedCase(3, *box, rows[:1], 1, True).label, ProvedCase(3, *box, rows[1:], 1, True).label
    (0, None)
    """

    number: int
    lower: np.ndarray
    upper: np.ndarray
    disjuncts: tuple[tuple[np.ndarray, np.ndarray], ...]
    leaves: int
    proved: bool

    @property
    def label(self) -> int | None:
        """The class that no other reaches the output of, where the disjuncts say just that."""
        outputs = self.disjuncts[0][0].shape[1]
        found = set()
        for C, d in self.disjuncts:
            plus, minus = np.flatnonzero(C[0] == 1), np.flatnonzero(C[0] == -1)
            margin = (len(plus), len(minus), np.count_nonzero(C[0])) == (1, 1, 2)
            if len(C) > 1 or d[0] > 0 or not margin:
                return None
            found.add((int(plus[0]), int(minus[0])))
        labels = {label for label, _ in found}
        return labels.pop() if len(labels) == 1 and len(found) == outputs - 1 else None


@dataclass(frozen=True, eq=False)
class ProofCheck:
    """What became of a proof.

    cases: all of the file, by their numbers; none where it was rejected as a whole. rejections:
    every claim that does not follow, with the reason. vnnlib: the name of the property that was
    found to be what is proved; None where none was given. leaves: of all trees. statement: the
    statement of the file, see `bounds.solution.proof_file`.

    >>> ProofCheck((), (), None, 0, {}).accepted
    True
    """

    cases: tuple[ProvedCase, ...]
    rejections: tuple[Rejection, ...]
    vnnlib: str | None
    leaves: int
    statement: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether every claim of the file was proved, and is the property's."""
        return not self.rejections


def check_proof(
    proof: str | os.PathLike[str],
    model: Network | str | os.PathLike[str],
    *,
    vnnlib: Property | str | os.PathLike[str] | None = None,
    precision: int = 128,
    exact: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> ProofCheck:
    """Prove again that a network has no unsafe output, from a file that `certify` wrote.

    1. The file is as it was saved, and about this network.
    2. With `vnnlib`: its boxes and rows are those of every case and disjunct of the property.
    3. Every tree covers its case, and every leaf of it has no output in the disjunct.

    Args:
        proof: a file that `certify(…, proof=path)` or `certify_vnnlib(…, proof=path)` wrote.
        model: the network, or the path of a `torch.export` archive or of an ONNX file.
        vnnlib: the property, or the path of its file. Without one, what is proved is what the file
            says of itself: see `ProofCheck.cases`.
        precision: bits of the balls, in which leaves are looked at that float64 leaves open.
        exact: also look at every leaf in rational numbers, which takes small networks and trees.
        watch: is told how many nodes of how many are done.

    Raises:
        InvalidInputError: a file that is not a proof, or a property of other numbers of inputs or
            outputs than the network's, or options that cannot be used.
        UnsupportedLayerError: a network with an operation that is not known to the checker.
        BoundsError: a process that flushes subnormal numbers to zero; or python-flint is missing,
            and balls or rationals are needed.

    >>> import torch, bounds
    >>> network = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    >>> x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    >>> found = bounds.certify(network, x, 0, radius=0.5, proof="proof.safetensors")
    >>> proved = bounds.check_proof("proof.safetensors", network)
    >>> proved.accepted, proved.cases[0].label
    (True, 0)
    """
    require_precision("check_proof", precision)
    require_gradual_underflow()
    file = read_proof(proof)
    network = model if isinstance(model, Network) else load(model, dtype=torch.float64)
    if vnnlib is not None:
        vnnlib = vnnlib if isinstance(vnnlib, Property) else read_vnnlib(vnnlib)
        vnnlib.require_fit(network.input_shape, network.output_shape)
    name = None if vnnlib is None else vnnlib.name
    try:
        file.require_unchanged()
        file.require_network(network)
        cases = cases_of(file, network)
        if vnnlib is not None:
            require_covered(cases, vnnlib)
        leaves = _Leaves(network, file, cases, precision=precision, exact=exact)
        failed = leaves.unproved(watch)
    except Rejected as rejected:
        return ProofCheck((), (Rejection(str(rejected)),), name, 0, file.statement)
    return _result(file, cases, leaves.forest, failed, name)


class _Leaves:
    """Which leaves are not proved, by their nodes; those that float64 leaves open are looked at
    again in balls and, where that is asked for, all of them in rationals."""

    def __init__(
        self, network: Network, file: ProofFile, cases: Cases, *, precision: int, exact: bool
    ) -> None:
        self._passes, self._file, self._cases = Passes(network), file, cases
        inputs = self._passes.graph.sizes[0]
        self.forest = forest_of(file, cases, (inputs, self._passes.neurons))
        self._refutations = file.arrays.get("refutation.bytes", np.zeros(0)).size
        if exact:
            require_small(network, self.forest, self._refutations)
        self._exact, self._precision, self._inputs = exact, precision, inputs
        self._look = partial(SecondLook, network, cases=cases)

    def unproved(self, watch: Callable[[int, int], None]) -> np.ndarray:
        forest, total = self.forest, len(self.forest.kind)
        every = np.arange(len(self._cases.rows) - 1)
        neurons = (forest.kind == MULTIPLIERS) | (
            (forest.kind == SPLIT) & (forest.at >= self._inputs)
        )
        by_neurons = np.isin(every, forest.disjunct[neurons])
        boxes = BoxTrees(self._passes, self._cases, forest)
        with np.errstate(all="ignore"):  # what overflows proves nothing
            left = boxes.prove(
                every[~by_neurons], lambda done: watch(done, total), every=self._exact
            )
            failed = [
                node
                for k, node in enumerate(left.node.tolist())
                if not self._holds(False, "box", *self._at(left, k))
            ]
            if by_neurons.any():
                failed += self._by_neurons(
                    every[by_neurons], lambda done: watch(boxes.evaluated + done, total)
                )
        return np.array(failed, dtype=np.int64)

    def _at(self, left: Open, k: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        disjunct = int(self.forest.disjunct[left.node[k]])
        return disjunct, left.lower[k], left.upper[k], left.signs[k]

    def _by_neurons(self, disjuncts: np.ndarray, tell: Callable[[int], None]) -> list[int]:
        refutations = refutations_of(self._file, self._cases, self._passes.sizes)
        trees = ReluTrees(self._passes, self._cases, self.forest, refutations, inputs=self._inputs)

        def again(holds: bool, *leaf: Any) -> bool:
            return self._holds(holds, "refutation", refutations, *leaf)

        return trees.prove(disjuncts, tell, again)

    def _holds(self, seen: bool, kind: str, *leaf: Any) -> bool:
        """Whether a leaf does, given whether that was seen in float64."""
        if seen and not self._exact:
            return True
        with ball_precision(self._precision):
            return bool(getattr(self._second, kind)(*leaf))

    @cached_property
    def _second(self) -> SecondLook:
        if self._exact:
            return self._look(rationals(), limit=self.forest.leaves + self._refutations)
        return self._look(balls(), limit=LEAVES)


def _result(
    file: ProofFile, cases: Cases, forest: Forest, failed: np.ndarray, name: str | None
) -> ProofCheck:
    leaves = np.bincount(forest.disjunct[forest.kind != SPLIT], minlength=len(cases.rows) - 1)
    open_leaves = np.bincount(forest.disjunct[failed], minlength=len(cases.rows) - 1)
    found, rejections = [], []
    for at, number in enumerate(cases.number.tolist()):
        first, end = int(cases.disjuncts[at]), int(cases.disjuncts[at + 1])
        for k in range(first, end):
            if open_leaves[k]:
                rejections.append(
                    Rejection(
                        f"disjunct {k - first}: {open_leaves[k]} of {leaves[k]} leaves of its tree "
                        "are not proved",
                        number,
                    )
                )
        rows = [slice(int(cases.rows[k]), int(cases.rows[k + 1])) for k in range(first, end)]
        found.append(
            ProvedCase(
                number,
                cases.lower[at],
                cases.upper[at],
                tuple((cases.C[part], cases.d[part]) for part in rows),
                int(leaves[first:end].sum()),
                not open_leaves[first:end].any(),
            )
        )
    found.sort(key=lambda case: case.number)
    return ProofCheck(tuple(found), tuple(rejections), name, int(leaves.sum()), file.statement)
