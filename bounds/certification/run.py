"""What a certification returns, and the run that makes it."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from bounds.arguments import (
    require_dtype,
    require_flag,
    require_option,
    require_positive,
    require_whole,
    shown,
)
from bounds.certification.asked import digest_of
from bounds.certification.choice import Method
from bounds.certification.counterexample import Counterexample
from bounds.certification.decide import Escalation
from bounds.certification.decision import Decision, Replay, Watch
from bounds.certification.rounding_margin import margin_by_parts
from bounds.certification.stopwatch import Stopwatch
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import relax
from bounds.interrupt import Interrupted
from bounds.network.graph import Network
from bounds.progress import at_work
from bounds.relaxation.specification import Specification
from bounds.search.journal import Journal
from bounds.search.proof import Proof, ProofFile
from bounds.search.search import Search
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.certificate_file import network_digest
from bounds.solution.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Certification:
    """A verdict for each input of a data set, or for each case of a property.

    verdicts: "unsat" (proved: nothing in the set is answered wrongly, or unsafely), "sat" (a
        counterexample was replayed) or "unknown".
    lower: (inputs, rows), the largest lower bound of each row that was proved on the whole set;
        −inf where none was, NaN where a case has fewer rows than others. What was proved part by
        part ("input_split") may have none above 0.
    methods: where each verdict comes from, or what was tried last.
    counterexamples: of the verdicts "sat"; else None.
    chosen: what was to follow one pass and an attack, and why; empty where the time did not reach.
    searches: how far each search of a set's parts came, where there was one.
    seconds: by kind of work, and in "total".
    proof: what was written, where a proof was asked for and there is something to prove.

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
    chosen: tuple[str, ...]
    searches: tuple[Search | None, ...]
    seconds: dict[str, float]
    proof: ProofFile | None = None

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

    deployed: the dtype whose rounding proofs have to survive, if any. method: see
    `bounds.certification.choice`. watch: is told how far the search of an input's set is. journal:
    the path of the file where searches are noted, if anywhere; `open_journal` opens it.
    """

    def __init__(
        self,
        call: str,
        *,
        timeout: float | None,
        seed: int,
        dtype: torch.dtype,
        deployed: torch.dtype | None,
        method: Method,
        watch: Watch | None,
        proof: str | os.PathLike[str] | None,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
    ) -> None:
        require_flag(call, "progress", progress)
        require_option(call, "method", method, get_args(Method))
        seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
        require_dtype(call, "dtype", dtype)
        if deployed is not None:
            require_dtype(call, "deployed", deployed)
        if timeout is not None:
            timeout = require_positive(call, "timeout", timeout, "a positive time in seconds")
        for name, path in (("proof", proof), ("journal", journal)):
            if path is not None and not isinstance(path, (str, os.PathLike)):
                raise InvalidInputError(
                    f"{call}({name}) got {shown(path)}, expected the path of a file to be written."
                )
        if (
            journal is not None
            and proof is not None
            and os.path.realpath(os.fsdecode(journal)) == os.path.realpath(os.fsdecode(proof))
        ):
            raise InvalidInputError(
                f"{call} got one path as proof and journal, expected two: choose another file for "
                "either."
            )
        self._start = time.perf_counter()
        self._call, self._progress = call, progress
        self._tell: Callable[[float], None] = lambda _: None
        self._deadline = Deadline(timeout, lambda more: self._tell(more))
        self._clock = Stopwatch()
        self._generator = torch.Generator().manual_seed(seed)
        self.deployed, self._method, self._watch = deployed, method, watch
        self._path, self._proof = proof, None if proof is None else Proof()
        self._journal_path = journal
        self._journal: Journal | None = None
        #: What else decides which tree a search makes.
        self._asked = {
            "call": call,
            "method": method,
            "seed": seed,
            "dtype": dtype,
            "deployed": deployed,
            "proof": "none" if proof is None else "kept",
        }

    @property
    def timed_out(self) -> bool:
        """Whether the time is up."""
        return self._deadline.passed

    def open_journal(self, network: Network, **asked: object) -> None:
        """Begin the journal, or go on with it, if there is to be one. asked: the sets of inputs and
        what is to be proved of them.

        Raises InvalidInputError for a journal of something else, or none at all.
        """
        if self._journal_path is not None:
            digests = {name: digest_of(value) for name, value in asked.items()}
            about = {**self._asked, "network": network_digest(network), **digests}
            self._journal = Journal(self._journal_path, about)

    def decide(
        self,
        network: Network,
        ball: Ball | Box,
        specification: Specification,
        disjuncts: Sequence[Sequence[int]],
        replay: Replay,
        *,
        numbers: Sequence[int],
        decisions: Sequence[Decision],
    ) -> None:
        """Relax, and decide as far as the time allows; see `Escalation`.

        numbers: of these inputs, among all. decisions: in which what is found is noted.
        """
        if self._deadline.passed:
            return
        with self._clock("relax"):
            relaxation = relax(
                network, ball, specification, slope="adaptive", time_limit=self._deadline.limit
            )
            if relaxation.timed_out and self._proof is not None:
                return  # what such l and u prove, those that a checker finds anew need not
            margin = torch.zeros_like(relaxation.d, dtype=torch.float64)
            if self.deployed is not None:
                margin = margin_by_parts(relaxation, self.deployed, time_limit=self._deadline.limit)
        watch = self._watch

        def tell(i: int, search: Search) -> None:
            if watch is not None:
                watch(numbers[i], search)

        Escalation(
            relaxation,
            disjuncts,
            replay,
            margin=margin,
            decisions=decisions,
            method=self._method,
            generator=self._generator,
            deadline=self._deadline,
            clock=self._clock,
            watch=tell,
            proof=self._proof,
            journal=self._journal,
            numbers=numbers,
        ).run()

    @contextmanager
    def keeping(self, decisions: Sequence[Decision], kind: str) -> Iterator[None]:
        """What is in these decisions, of so many inputs or cases, is not lost to Ctrl-C: neither to
        the first one, after which the work ends as it does where the time is up, nor to others.

        Raises Interrupted.
        """
        total = len(decisions)
        try:
            with at_work(self._call, progress=self._progress, total=total, unit=kind) as work:
                self._tell = work.deadline.tell
                yield
        except KeyboardInterrupt as stop:
            raise Interrupted(self._call, self.certification(decisions)) from stop
        finally:
            self._end_journal()

    def _end_journal(self) -> None:
        """Write where searches are; a disk that is full must not take what they found, too."""
        if self._journal is not None:
            try:
                self._journal.write()
            except InvalidInputError as error:
                warnings.warn(str(error), stacklevel=4)

    def save_proof(self, network: Network, of: str) -> ProofFile | None:
        """Write what is proved to the file that was asked for, if anything is.

        Raises InvalidInputError for a path that cannot be written.
        """
        if self._path is None or not self._proof:
            return None
        with self._clock("proof"):
            return self._proof.save(self._path, network, of=of)

    def certification(
        self, decisions: Sequence[Decision], proof: ProofFile | None = None
    ) -> Certification:
        lower = [torch.tensor(decision.lower, dtype=torch.float64) for decision in decisions]
        return Certification(
            tuple(decision.verdict for decision in decisions),
            torch.nn.utils.rnn.pad_sequence(lower, batch_first=True, padding_value=math.nan),
            tuple(decision.method for decision in decisions),
            tuple(decision.counterexample for decision in decisions),
            tuple(decision.chosen for decision in decisions),
            tuple(decision.search for decision in decisions),
            {**self._clock.seconds, "total": time.perf_counter() - self._start},
            proof,
        )
