"""`bounds.audit`: bounds that another tool claims, under the exact lens.

Each claimed end of an interval is *refuted* where a point of the set goes beyond it, *proved* where
bounds of ours imply it, and *open* else. Bounds are looked for from cheap to tight: one pass, the
LP optimum, and, if asked for, a search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bounds.arguments import (
    require_flag,
    require_time_limit,
    require_type,
    require_whole,
    shown,
)
from bounds.certification.attacks import attack, restarts
from bounds.certification.minimum import minimum
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import matching_set, relax
from bounds.network.graph import Network, ReluNode
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box, InputSet
from bounds.solution.verdict import trusted
from bounds.solvers.solve import solve

Judgement = Literal["proved", "refuted", "open"]
JUDGEMENTS: tuple[Judgement, ...] = ("open", "proved", "refuted")
#: What claims may be about, besides ReLU inputs by the name of their node.
OUTPUT = "output"


@dataclass(frozen=True, eq=False)
class AuditedEnd:
    """Claims that values are at least (or, of an upper end, at most) these; each (batch, values).

    claimed: the numbers. ours: a bound that holds over the reals. lp: the optimum of the LP over
    the layers below, as far as it was needed, NaN else. attained: what a point of the set attains.
    judgement: positions in `JUDGEMENTS`.
    """

    claimed: Tensor
    ours: Tensor
    lp: Tensor
    attained: Tensor
    judgement: Tensor

    def count(self, judgement: Judgement) -> int:
        return int((self.judgement == JUDGEMENTS.index(judgement)).sum())


@dataclass(frozen=True, eq=False)
class Audit:
    """ends: by what the claims are about, the lower and the upper ones.

    >>> Audit({}).sound, Audit({}).count("refuted")
    (True, 0)
    """

    ends: dict[str, tuple[AuditedEnd, AuditedEnd]]

    @property
    def sound(self) -> bool:
        """Whether no claim is refuted; which is not to say that all are proved."""
        return self.count("refuted") == 0

    def count(self, judgement: Judgement) -> int:
        return sum(end.count(judgement) for both in self.ends.values() for end in both)


@torch.inference_mode(False)
@torch.no_grad()
def audit(
    network: Network,
    ball: Ball | Box,
    claims: Mapping[str, tuple[Tensor, Tensor]],
    *,
    complete: bool = False,
    time_limit: float | None = None,
    seed: int = 0,
) -> Audit:
    """Judge bounds that another tool claims for the same network and set.

    Args:
        network, ball: as for `bounds.relax`.
        claims: by "output", or the name of a ReLU's node for the bounds of its inputs, lower and
            upper ends (batch, *shape), or without the batch for one input. Infinite ones claim
            nothing.
        complete: whether to search for the true extremes of what the LP leaves open.
        time_limit: seconds, default none; what is not decided by then is open.
        seed: of the attacks.

    Returns:
        An `Audit`, in float64.

    Raises:
        InvalidInputError: what `relax` refuses, names that are none of the network's, shapes that
            do not fit, or NaN.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
    >>> claims = {"output": (torch.tensor([[0.1]]), torch.tensor([[2.0]]))}
    >>> found = bounds.audit(net, ball, claims)
    >>> found.sound, found.count("refuted"), found.count("proved")
    (False, 1, 1)
    """
    call = "audit"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    require_type(call, claims, Mapping, "give pairs of ends by name")
    require_flag(call, "complete", complete)
    deadline = Deadline(require_time_limit(call, time_limit))
    seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
    network, generator = network.detach(), torch.Generator().manual_seed(seed)
    input_set = matching_set(call, network, ball)
    if complete:
        _require_box(input_set)
    ends = {}
    for name, both in claims.items():
        part = _node(network, name)
        low, high = _claimed(name, both, (len(input_set), *part.output_shape))
        judged = [
            _judge(part, ball, sign * end, sign, complete, deadline, generator)
            for sign, end in ((1.0, low), (-1.0, high))
        ]
        ends[name] = (judged[0], judged[1])
    return Audit(ends)


def _node(network: Network, name: str) -> Network:
    """The network whose output the claims of this name are about."""
    if name == OUTPUT:
        return network
    names = {}
    for node in network.nodes:
        if isinstance(node, ReluNode):
            names[node.name] = node.parents[0]
    if name not in names:
        raise InvalidInputError(
            f"audit(claims) got bounds of {name!r}, expected {OUTPUT!r} or a ReLU's node: "
            f"{', '.join(map(repr, names)) or 'there is none'}."
        )
    return network.ending_at(names[name])[0]


def _claimed(name: str, both: object, shape: tuple[int, ...]) -> list[Tensor]:
    """Lower ends and upper ends, (batch, values) each."""
    call = f"audit(claims[{name!r}])"
    if not isinstance(both, (tuple, list)) or len(both) != 2:
        raise InvalidInputError(
            f"{call} got {shown(both)}, expected a pair of tensors: lower ends and upper ends."
        )
    found = []
    for end in both:
        try:
            numbers = torch.as_tensor(end).detach().cpu()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InvalidInputError(
                f"{call} has an end {shown(end)}, expected numbers of shape {shape}: give a tensor."
            ) from error
        if numbers.shape == shape[1:]:
            numbers = numbers.unsqueeze(0)
        nan = numbers.is_complex() or bool(numbers.isnan().any())
        exact = not nan and bool((numbers.double().to(numbers.dtype) == numbers).all())
        if not exact or numbers.shape != shape:
            raise InvalidInputError(
                f"{call} has an end of shape {tuple(numbers.shape)} and {numbers.dtype}, or NaN, "
                f"expected numbers of float64 of shape {shape}: lower ends and upper ends."
            )
        found.append(numbers.double().flatten(1))
    return found


def _judge(
    network: Network,
    ball: Ball | Box,
    claimed: Tensor,
    sign: float,
    complete: bool,
    deadline: Deadline,
    generator: torch.Generator,
) -> AuditedEnd:
    """Claims that sign × each value is at least `claimed`."""
    rows = Specification(sign * torch.eye(claimed.shape[1], dtype=torch.float64))
    relaxation = relax(network, ball, rows, slope="adaptive", time_limit=deadline.limit).double()
    passed = solve(relaxation, method="adaptive_slope")
    ours, points = trusted(passed), passed.certificate.x
    lp, attained = torch.full_like(ours, math.nan), torch.full_like(ours, math.inf)
    for i, row in (ours < claimed).nonzero().tolist():
        if deadline.passed:
            break
        one = relaxation.take(torch.tensor([i]), torch.tensor([row]))
        attained[i, row] = _attained(one.network, one.input_set, sign, row, points[i, row])
        if attained[i, row] < claimed[i, row]:
            continue
        solution = solve(one, method="exact", time_limit=deadline.limit)
        lp[i, row] = solution.lower[0, 0]
        ours[i, row] = torch.maximum(ours[i, row], trusted(solution)[0, 0])
        start = torch.stack([points[i, row], solution.certificate.x[0, 0]])
        found, _ = attack(
            one.network, one.input_set, one.C, one.d, start.unsqueeze(0),
            random=restarts(one.network), generator=generator, deadline=deadline,
        )  # fmt: skip
        reached = _attained(one.network, one.input_set, sign, row, found[0])
        attained[i, row] = min(float(attained[i, row]), reached)
        decided = bool((ours >= claimed)[i, row] | (attained < claimed)[i, row])
        if complete and not decided and not deadline.passed:
            assert isinstance(one.input_set, Box)
            row_alone = Specification(one.C[0].flatten(1), one.d[0])
            true = minimum(one.network, one.input_set, row_alone, time_limit=deadline.limit)
            ours[i, row] = torch.maximum(ours[i, row], true.lower[0, 0])
            attained[i, row] = torch.minimum(attained[i, row], true.upper[0, 0])
    judgement = torch.where(ours >= claimed, 1, 0)
    judgement = torch.where(attained < claimed, 2, judgement)
    return AuditedEnd(sign * claimed, sign * ours, sign * lp, sign * attained, judgement)


def _require_box(input_set: InputSet) -> None:
    if not isinstance(input_set, Box):
        raise InvalidInputError(
            "audit(complete=True) got a ball whose norm is not inf, expected a box of inputs: use "
            "complete=False."
        )


def _attained(network: Network, input_set: InputSet, sign: float, row: int, x: Tensor) -> float:
    """A number that sign × the value at a point of the set is not above, over the reals."""
    moved, inside = input_set.inside(x.reshape(1, 1, *network.input_shape).double())
    if not bool(inside):
        return math.inf
    C = torch.zeros(1, torch.Size(network.output_shape).numel(), dtype=torch.float64)
    C[0, row] = -sign
    at = relax(network, Box(moved[0], moved[0]), Specification(C))
    return -float(trusted(solve(at, method="fixed_slope")))
