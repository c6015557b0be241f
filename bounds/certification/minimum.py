"""`bounds.minimum`: the true minimum of a row over a set, between a proof and a point.

The LP optimum is the first lower end, and the best point of an attack the upper one. Then searches
are asked whether the row can be as low as a threshold between them: what they exclude is the next
lower end, and the point that they find instead the next upper one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from bounds.arguments import (
    require_option,
    require_positive,
    require_time_limit,
    require_type,
    require_whole,
    shown,
)
from bounds.certification.attacks import BESIDE, STEPS, attack, restarts
from bounds.certification.choice import chosen
from bounds.certification.one_input import PASSES
from bounds.certification.relu_splits import ReluSplits
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import matching_set, relax
from bounds.network.graph import Network
from bounds.network.merge import with_biases
from bounds.progress import at_work
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.rounding import difference_below
from bounds.search.bounding import Question
from bounds.search.domains import signs_of
from bounds.search.proof import Branches, CaseProof, Exclusion, Proof
from bounds.search.root import optimised_root
from bounds.search.search import Attack, BoxSearch, Search
from bounds.search.tree import Tree
from bounds.search.visible import VISIBLE
from bounds.sets.ball import Ball
from bounds.sets.box import Box, InputSet
from bounds.solution.verdict import trusted
from bounds.solvers.cost import matrices_fit
from bounds.solvers.solve import solve

#: Where the next threshold lies on the way from the lower end to the upper one; as close to that as
#: the tolerance once the gap is so many times the tolerance.
SHARE, CLOSE = 0.75, 8
#: How often a search may end without an answer before the interval is left as it is.
PATIENCE = 3


@dataclass(frozen=True, eq=False)
class Minimum:
    """lower ≤ min over the set of ⟨C, net(x)⟩ + d ≤ upper, over the reals; each (batch, rows).

    x: where the upper end is attained, (batch, rows, *input_shape). closed: whether the gap is
    within the tolerance. domains: boxes or nodes that were bounded, (batch, rows).

    >>> number = torch.zeros(1, 1)
    >>> Minimum(number, number + 1, number, number > 0, number).gap.tolist()
    [[1.0]]
    """

    lower: Tensor
    upper: Tensor
    x: Tensor
    closed: Tensor
    domains: Tensor

    @property
    def gap(self) -> Tensor:
        return self.upper - self.lower


@torch.inference_mode(False)
@torch.no_grad()
def minimum(
    network: Network,
    ball: Ball | Box,
    specification: Specification,
    *,
    tolerance: float = 1e-6,
    time_limit: float | None = None,
    method: Literal["auto", "input_split", "relu_split"] = "auto",
    seed: int = 0,
    watch: Callable[[int, int, Search], None] | None = None,
    proof: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Minimum:
    """The minimum of each row of the network itself, where `bounds.solve` has that of its LP.

    Args:
        network, ball, specification: as for `bounds.relax`; the ball of norm inf or 1.
        tolerance: the gap to be closed, relative to the larger of 1, |lower| and |upper|.
        time_limit: seconds for all rows; the interval holds, however wide it is then.
        method: which search; "auto" splits inputs where at most 30 can move, else ReLUs.
        seed: of the attack.
        watch: is told the input, the row and how far its present search is.
        proof: the path of a file for what proves the lower ends (`bounds.solution.proof_file`), a
            case for each row in turn, less its lower end: `bounds.check_proof` proves it positive
            again. Of boxes; rows whose end comes from no search are left out.
        progress: whether a bar on standard error shows how many rows are done.

    Returns:
        A `Minimum`, in float64.

    Raises:
        Interrupted: a KeyboardInterrupt, with the intervals as Ctrl-C left them, which hold; no
            proof is written.
        InvalidInputError: what `relax` refuses, sets that the search does not take, or an option
            out of its range.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
    >>> row = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    >>> found = bounds.minimum(net, ball, row)
    >>> bool(found.closed), abs(round(found.upper.item(), 6))
    (True, 0.0)
    """
    call = "minimum"
    tolerance = require_positive(call, "tolerance", tolerance, "a positive number")
    require_option(call, "method", method, get_args(Literal["auto", "input_split", "relu_split"]))
    seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
    time_limit = require_time_limit(call, time_limit)
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    if proof is not None and not isinstance(proof, (str, os.PathLike)):
        raise InvalidInputError(
            f"{call}(proof) got {shown(proof)}, expected the path of a file to be written."
        )
    network, evidence = network.detach(), None if proof is None else Proof()
    input_set = matching_set(call, network, ball)
    if evidence is not None and not isinstance(input_set, Box):
        raise InvalidInputError(
            f"{call}(proof) got a ball whose norm is not inf, and proofs are about boxes: use "
            "norm=inf, or leave it out."
        )
    require_type(call, specification, Specification, "make one with bounds.Specification(C, d)")
    total = len(input_set) * specification.C.shape[-2]
    with at_work(call, progress=progress, total=total, unit="rows", time_limit=time_limit) as work:
        limit = work.deadline.limit
        whole = relax(network, ball, specification, slope="adaptive", time_limit=limit).double()
        whole = replace(whole, network=with_biases(whole.network))
        generator = torch.Generator().manual_seed(seed)
        found = _minimum(whole, tolerance, work.deadline, method, generator, watch, evidence)
        work.done(found)
    if proof is not None and evidence:
        evidence.save(proof, network, of="inputs")
    return found


def _minimum(
    whole: Relaxation,
    tolerance: float,
    deadline: Deadline,
    method: Literal["auto", "input_split", "relu_split"],
    generator: torch.Generator,
    watch: Callable[[int, int, Search], None] | None,
    evidence: Proof | None,
) -> Minimum:
    """Of all rows, one after another. evidence: is given what proves the lower ends, if any is."""
    searches = [
        choice.search for choice in chosen(whole, method, limited=deadline.left is not None)
    ]
    batch, rows = whole.d.shape
    solution = solve(whole, method="exact", time_limit=deadline.limit)
    lower, points = trusted(solution), solution.certificate.x
    upper = torch.full_like(lower, math.inf)
    domains = torch.zeros(batch, rows, dtype=torch.long)
    for i in range(batch):
        one = whole.take(torch.tensor([i]), torch.arange(rows))
        root, stated = optimised_root(one, deadline, keep=evidence is not None)
        for row in range(rows):
            told = None if watch is None else partial(watch, i, row)
            interval = _Row(
                root.take(torch.tensor([0]), torch.tensor([row])),
                searches[i],
                float(lower[i, row]),
                points[i, row],
                generator,
                told,
                visible=evidence is not None,
            )
            # Searches tell of layers, and this call of rows.
            interval.close(tolerance, Deadline(deadline.left))
            if evidence is not None and interval.proved is not None:
                part, excluded = interval.proved
                evidence.add(i * rows + row, CaseProof(part, [[0]], [excluded], stated))
            lower[i, row], upper[i, row] = interval.lower, interval.upper
            points[i, row], domains[i, row] = interval.x, interval.domains
            deadline.tell(1)
    gap = upper - lower
    closed = gap.isfinite() & (gap <= tolerance * _size(lower, upper))
    return Minimum(lower, upper, points, closed, domains)


class _Row:
    """The interval of one row of one input. search: which kind closes it, if any does. visible:
    whether what excludes a threshold is to be seen by others, too.

    proved: the row less the last threshold that a search has excluded, and how.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        search: Literal["input_split", "relu_split"] | None,
        lower: float,
        x: Tensor,
        generator: torch.Generator,
        watch: Callable[[Search], None] | None,
        *,
        visible: bool,
    ) -> None:
        self._visible = VISIBLE if visible else 0.0
        self.proved: tuple[Relaxation, Exclusion] | None = None
        self._relaxation, self._search = relaxation, search
        self._generator, self._watch = generator, watch or (lambda _: None)
        self.lower, self.upper, self.x, self.domains = lower, math.inf, x, 0
        self._improve(x)

    def close(self, tolerance: float, deadline: Deadline) -> None:
        whole, many = self._relaxation.input_set, restarts(self._relaxation.network)
        self._descend(whole, self.x.unsqueeze(0), many, deadline)
        patience = PATIENCE
        while self._search is not None and patience and not deadline.passed:
            gap = self.upper - self.lower
            enough = tolerance * max(1.0, abs(self.lower), abs(self.upper))
            if not enough < gap < math.inf:  # no threshold lies on the way from or to infinity
                return
            near = gap <= CLOSE * enough
            threshold = self.upper - 0.9 * enough if near else self.lower + SHARE * gap
            before = self.upper
            if self._excluded(threshold, deadline):
                self.lower = max(self.lower, threshold)
            elif not self.upper < before:
                patience -= 1

    def _excluded(self, threshold: float, deadline: Deadline) -> bool:
        """Whether the row is above the threshold everywhere; if not, there may be a new point."""
        taken = torch.full_like(self._relaxation.d, threshold)
        part = replace(self._relaxation, d=difference_below(self._relaxation.d, taken))

        def confirm(points: Tensor) -> bool:
            return min(self._improve(x) for x in points) <= threshold

        def descend(input_set: InputSet, starts: Tensor, random: int) -> bool:
            return self._descend(input_set, starts, random, deadline) <= threshold

        if self._search == "relu_split":
            splits = ReluSplits(
                part,
                confirm,
                lambda _, starts: descend(part.input_set, starts, BESIDE),
                self._watch,
                1,
                math.inf,
                # Only LPs come close to a tolerance.
                "lp" if matrices_fit(part, None) else "slopes",
            )
            closed = splits.excluded(0, [0], deadline)
            self.domains += splits.state.domains
            if closed:
                self.proved = part, splits.trees[0]
            return closed
        tree = Tree(1)
        search = BoxSearch(
            Question(part.network, part.C, part.d, self._visible),
            Box(part.input_set.lower, part.input_set.upper),
            signs_of(part.relu_bounds, part.d.new_zeros(1, 1, dtype=torch.int8)),
            {0: self.lower - threshold},
            attack=Attack(
                confirm,
                lambda _, box, starts: descend(box, starts[0], restarts(part.network)),
                STEPS * PASSES * restarts(part.network),
            ),
            watch=self._watch,
            tree=tree,
        )
        closed = search.run(deadline).ended == "closed"
        self.domains += search.state.domains
        if closed:
            self.proved = part, Branches(tree, 0)
        return closed

    def _descend(
        self, input_set: InputSet, starts: Tensor, random: int, deadline: Deadline
    ) -> float:
        """The row where an attack ends from points (points, *input_shape) and so many others."""
        relaxation = self._relaxation
        points, _ = attack(
            relaxation.network,
            input_set,
            relaxation.C,
            relaxation.d,
            starts.unsqueeze(0),
            random=random,
            generator=self._generator,
            deadline=deadline,
        )
        return self._improve(points[0])

    def _improve(self, x: Tensor) -> float:
        """A number above the row at the point, which is kept if it is the lowest."""
        network = self._relaxation.network
        moved, proved = self._relaxation.input_set.inside(x.reshape(1, 1, *network.input_shape))
        if not bool(proved):
            return math.inf
        opposite = Specification(-self._relaxation.C[0].flatten(1), -self._relaxation.d[0])
        point = Box(moved[0], moved[0])
        value = -float(trusted(solve(relax(network, point, opposite), method="fixed_slope")))
        if value < self.upper:
            self.upper, self.x = value, moved[0, 0]
        return value


def _size(lower: Tensor, upper: Tensor) -> Tensor:
    return torch.maximum(lower.abs(), upper.abs()).clamp(min=1.0)
