"""`bounds.audit`: bounds that another tool claims, under the exact lens.

Each claimed end of an interval is *refuted* where a point of the set goes beyond it, *proved* where
bounds of ours imply it, and *open* else (`bounds.analysis.judge`). Beside each stands the optimum
of the LP that rests on the claims' own l and u.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.analysis.claims import OUTPUT, ROWS, Claims
from bounds.analysis.judge import JUDGEMENTS, AuditedEnd, Judge, Judgement
from bounds.arguments import (
    require_flag,
    require_option,
    require_time_limit,
    require_type,
    require_whole,
    shown,
)
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import matching_set
from bounds.network.graph import Network, ReluNode
from bounds.progress import at_work
from bounds.relaxation.specification import Specification
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.ball import Ball
from bounds.sets.box import Box, InputSet


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
        """How many ends are judged so.

        Raises InvalidInputError for what is none of "proved", "refuted" and "open".
        """
        require_option("Audit.count", "judgement", judgement, JUDGEMENTS)
        return sum(end.count(judgement) for both in self.ends.values() for end in both)


@torch.inference_mode(False)
@torch.no_grad()
def audit(
    network: Network,
    ball: Ball | Box,
    claims: Claims | Mapping[str, tuple[Tensor, Tensor]],
    *,
    complete: bool = False,
    optima: bool = True,
    time_limit: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Audit:
    """Judge bounds that another tool claims for the same network and set.

    Args:
        network, ball: as for `bounds.relax`.
        claims: by "output", or the name of a ReLU's node for the bounds of its inputs, lower and
            upper ends (batch, *shape), or without the batch for one input; a lower end of −∞ and an
            upper one of +∞ claim nothing. `bounds.Claims` has those about rows of the outputs, too.
        complete: whether to search for the true extremes of what the LP leaves open.
        optima: whether to find, once all is judged and as far as the time allows, the LP optimum
            beside every claim: over the layers below, with l and u as claimed where they are, and
            ours elsewhere.
        time_limit: seconds, default none; what is not decided by then is open.
        seed: of the attacks.
        progress: whether a bar on standard error shows how much is done, an end of an input at a
            time; each is looked at once to be judged, and once for its optima.

    Returns:
        An `Audit`, in float64 on the CPU.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was known when Ctrl-C came; the rest is
            open.
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
    if not isinstance(claims, Claims):
        require_type(call, claims, Mapping, "give pairs of ends by name")
        claims = Claims(dict(claims))
    require_flag(call, "complete", complete)
    require_flag(call, "optima", optima)
    time_limit = require_time_limit(call, time_limit)
    seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
    network, generator = network.detach(), torch.Generator().manual_seed(seed)
    input_set = matching_set(call, network, ball)
    if complete:
        _require_box(input_set)
    parts = {}
    for name, both in claims.ends.items():  # what is refused, is before anything is bounded
        part, rows, shape = _about(network, name, claims.rows)
        parts[name] = part, rows, _claimed(name, both, (len(input_set), *shape))
    total = 2 * len(parts) * len(input_set) * (2 if optima else 1)
    with at_work(call, progress=progress, total=total, unit="ends", time_limit=time_limit) as work:
        judges = {
            name: [
                Judge(part, ball, rows, sign * end.to(input_set.lower.device), sign, work.deadline)
                for sign, end in zip((1.0, -1.0), both, strict=True)
            ]
            for name, (part, rows, both) in parts.items()
        }
        for judge in (judge for both in judges.values() for judge in both):
            judge.decide(complete=complete, generator=generator)
        if optima:
            stated = _stated(network, claims, len(input_set))
            for judge in (judge for both in judges.values() for judge in both):
                judge.find_optima(stated)
        ends = {name: (low.end(), high.end()) for name, (low, high) in judges.items()}
        return work.done(Audit(ends))


def _about(
    network: Network, name: str, rows: Specification | None
) -> tuple[Network, Specification, tuple[int, ...]]:
    """The network whose outputs the claims of this name are about, the rows of these, and the
    shape of the claims about one input."""
    if name == ROWS:
        if rows is None:
            raise InvalidInputError(
                f"audit(claims) got bounds of {ROWS!r}, and no rows: make the claims with "
                "bounds.Claims(ends, rows=bounds.Specification(C, d))."
            )
        return network, rows, (rows.C.shape[-2],)
    part = network if name == OUTPUT else _before(network, name)
    shape = tuple(part.output_shape)
    return part, Specification(torch.eye(torch.Size(shape).numel(), dtype=torch.float64)), shape


def _before(network: Network, name: str) -> Network:
    """The network whose output is the input of this ReLU."""
    names = _relus(network)
    if name not in names:
        raise InvalidInputError(
            f"audit(claims) got bounds of {name!r}, expected {OUTPUT!r}, {ROWS!r} or a ReLU's "
            f"node: {', '.join(map(repr, names)) or 'there is none'}."
        )
    return network.ending_at(names[name])[0]


def _relus(network: Network) -> dict[str, int]:
    """By the name of each ReLU, the node of its inputs."""
    relus = (node for node in network.nodes if isinstance(node, ReluNode))
    return {node.name: node.parents[0] for node in relus}


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
        if numbers.shape != shape and (shape[0] > 1 or numbers.shape != shape[1:]):
            raise InvalidInputError(
                f"{call} has an end of shape {tuple(numbers.shape)}, expected {shape}: give lower "
                "ends and upper ends for every input."
            )
        numbers = numbers.reshape(shape)
        if numbers.is_complex() or numbers.dtype == torch.bool:
            raise InvalidInputError(
                f"{call} has an end of {numbers.dtype}, expected numbers: give floating-point ends."
            )
        if bool(numbers.isnan().any()):
            raise InvalidInputError(
                f"{call} has an end that is NaN: where nothing is claimed, give -inf and inf."
            )
        if not bool((numbers.double().to(numbers.dtype) == numbers).all()):
            raise InvalidInputError(
                f"{call} has an end in {numbers.dtype} that float64 does not hold: give ends of "
                "float64, rounded outward."
            )
        found.append(numbers.double().flatten(1))
    return found


def _stated(network: Network, claims: Claims, batch: int) -> dict[str, ReluBounds]:
    """What is claimed of the inputs of ReLUs, by name; each (batch, values)."""
    relus, found = _relus(network), {}
    for name, both in claims.ends.items():
        if name in relus:
            shape = (batch, *network.nodes[relus[name]].shape)
            found[name] = ReluBounds(*_claimed(name, both, shape))
    return found


def _require_box(input_set: InputSet) -> None:
    if not isinstance(input_set, Box):
        raise InvalidInputError(
            "audit(complete=True) got a ball whose norm is not inf, expected a box of inputs: use "
            "complete=False."
        )
