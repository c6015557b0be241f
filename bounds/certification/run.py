"""What a certification returns, and the run that makes it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.arguments import require_dtype, require_positive, require_whole
from bounds.certification.counterexample import Counterexample
from bounds.certification.decide import Decision, Escalation, Replay
from bounds.certification.stopwatch import Stopwatch
from bounds.deadline import Deadline
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.deployment import deployment_margin
from bounds.solution.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Certification:
    """A verdict for each input of a data set, or for each case of a property.

    verdicts: "unsat" (proved: nothing in the set is answered wrongly, or unsafely), "sat" (a
        counterexample was replayed) or "unknown".
    lower: (inputs, rows), the largest lower bound of each row that was proved; −inf where none was,
        NaN where a case has fewer rows than others.
    methods: where each verdict comes from, or what was tried last.
    counterexamples: of the verdicts "sat"; else None.
    seconds: by kind of work, and in "total".

    >>> import torch, bounds
    >>> x = torch.tensor([[2.0, 0.0]])
    >>> found = bounds.certify(torch.nn.Identity(), x, 0, radius=0.5)
    >>> found.verdict, round(found.lower.item(), 6), found.verified.tolist()
    ('unsat', 1.0, [True])
    """

    verdicts: tuple[Verdict, ...]
    lower: Tensor
    methods: tuple[str, ...]
    counterexamples: tuple[Counterexample | None, ...]
    seconds: dict[str, float]

    @property
    def verified(self) -> Tensor:
        """Whether each input is proved; shape (inputs,)."""
        return torch.tensor([verdict == "unsat" for verdict in self.verdicts])

    @property
    def verdict(self) -> Verdict:
        """Of all together: "sat" where one is, "unsat" where all are."""
        if "sat" in self.verdicts:
            return "sat"
        return "unsat" if set(self.verdicts) == {"unsat"} else "unknown"


class Run:
    """One deadline, one seed and one clock for all parts of a certification.

    deployed: the dtype whose rounding proofs have to survive, if any.
    """

    def __init__(
        self,
        call: str,
        *,
        timeout: float | None,
        seed: int,
        dtype: torch.dtype,
        deployed: torch.dtype | None,
    ) -> None:
        seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
        require_dtype(call, "dtype", dtype)
        if deployed is not None:
            require_dtype(call, "deployed", deployed)
        if timeout is not None:
            timeout = require_positive(call, "timeout", timeout, "a positive time in seconds")
        self._start = time.perf_counter()
        self._deadline, self._clock = Deadline(timeout), Stopwatch()
        self._generator = torch.Generator().manual_seed(seed)
        self._deployed = deployed

    def decide(
        self,
        network: Network,
        ball: Ball | Box,
        specification: Specification,
        disjuncts: Sequence[Sequence[int]],
        replay: Replay,
    ) -> list[Decision]:
        """Relax, and decide as far as the time allows; see `Escalation`."""
        if self._deadline.passed:
            batch = len(ball.resolve(network.input_shape))
            return [Decision([-math.inf] * specification.C.shape[-2]) for _ in range(batch)]
        with self._clock("relax"):
            relaxation = relax(
                network, ball, specification, slope="adaptive", time_limit=self._deadline.left
            )
            margin = torch.zeros_like(relaxation.d, dtype=torch.float64)
            if self._deployed is not None:
                margin = deployment_margin(relaxation, self._deployed)
        return Escalation(
            relaxation,
            disjuncts,
            replay,
            margin=margin,
            generator=self._generator,
            deadline=self._deadline,
            clock=self._clock,
        ).run()

    def certification(self, decisions: Sequence[Decision]) -> Certification:
        lower = [torch.tensor(decision.lower, dtype=torch.float64) for decision in decisions]
        return Certification(
            tuple(decision.verdict for decision in decisions),
            torch.nn.utils.rnn.pad_sequence(lower, batch_first=True, padding_value=math.nan),
            tuple(decision.method for decision in decisions),
            tuple(decision.counterexample for decision in decisions),
            {**self._clock.seconds, "total": time.perf_counter() - self._start},
        )
