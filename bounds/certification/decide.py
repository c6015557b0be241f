"""From cheap to tight: one backward pass, an attack, and then the LP optimum or a search; each for
what is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bounds.certification.attacks import BESIDE, attack, restarts
from bounds.certification.choice import Choice, Method, chosen
from bounds.certification.decision import Decision, Replay, Watch
from bounds.certification.one_input import OneInput, left_of
from bounds.certification.stopwatch import Stopwatch
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.intermediate.kept import Kept
from bounds.network.memory import pass_numbers
from bounds.network.merge import with_biases
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import difference_below
from bounds.search.journal import Journal, Page
from bounds.search.proof import CaseProof, Exclusion, Leaf, Proof
from bounds.search.relu_tree import Refutation, ReluTree
from bounds.search.visible import reserve
from bounds.sets.box import Box
from bounds.solution.solution import Solution
from bounds.solution.soundness import soundly
from bounds.solution.verdict import proved, trusted
from bounds.solvers.solve import solve

#: Of inputs of which rows have to exceed infinity, which no search shows: what is left to try may
#: find a counterexample.
UNBOUNDED = Choice(None, "no_split (what the deployed dtype rounds has no bound)")
#: The most unstable neurons for which LP optima are looked at before a search begins.
LIGHT = 300
#: Numbers that an attack holds at a time. It is no share of what is free: a seed would not decide.
CHUNK = 2**25


class Escalation:
    """Decides for each input set of a relaxation whether an output is unsafe.

    An output is unsafe where it is in a disjunct: where none of its rows is positive.

    disjuncts: the rows of each. replay: confirms candidates. margin: what a row has to exceed to
    be positive, (batch, rows) in float64. decisions: one an input, in which all is noted at once.
    method: what follows the attack, see `bounds.certification.choice`. watch: is told how far
    searches are. clock: is told what took how long. proof: is given what proves each "unsat", where
    one is asked for, with the input's number. journal: where searches are noted, if anywhere.

    Raises InvalidInputError for a proof about a set that is no box.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        disjuncts: Sequence[Sequence[int]],
        replay: Replay,
        *,
        margin: Tensor,
        decisions: Sequence[Decision],
        method: Method,
        generator: torch.Generator,
        deadline: Deadline,
        clock: Stopwatch,
        watch: Watch,
        proof: Proof | None,
        journal: Journal | None,
        numbers: Sequence[int],
    ) -> None:
        if proof is not None and not isinstance(relaxation.input_set, Box):
            raise InvalidInputError(
                "proof= got a ball whose norm is not inf, and proofs are about boxes: use "
                "norm=inf, or leave it out."
            )
        self.proof, self.numbers, self.whole = proof, numbers, disjuncts
        self.journal = journal
        self.excluded: list[dict[int, Exclusion]] = [{} for _ in decisions]
        needed = margin if proof is None else margin + reserve(relaxation).to(margin)
        self.needed = needed.cpu()  # where decisions are made
        # Shorter disjuncts repeat their last row, which changes nothing.
        longest = max(map(len, disjuncts))
        self.disjuncts = [[*rows, *[rows[-1]] * (longest - len(rows))] for rows in disjuncts]
        self.relaxation, self.replay, self.margin = relaxation, replay, margin
        self.device = relaxation.C.device
        self.generator, self.deadline, self.clock = generator, deadline, clock
        self.decisions, self.watch = decisions, watch
        self.asked = method in ("input_split", "relu_split") or deadline.left is not None
        choices = [
            choice if bounded else UNBOUNDED
            for choice, bounded in zip(
                chosen(relaxation, method, limited=self.deadline.left is not None),
                margin.isfinite().all(1).tolist(),
                strict=True,
            )
        ]
        for decision, choice in zip(decisions, choices, strict=True):
            decision.chosen = choice.reason
        self.searches = [choice.search for choice in choices]

    def run(self) -> None:
        batch = range(len(self.decisions))
        with self.clock("adaptive_slope"):
            solution = solve(self.relaxation, method="adaptive_slope", sound=False)
            self._learn(solution, self.relaxation, batch, range(len(self.decisions[0].lower)))
        points = solution.certificate.x
        left = [(i, k) for i in batch for k in self._left(i)]
        images, rows = self._places([i for i, _ in left]), self._rows([k for _, k in left])
        starts = dict(zip(left, points[images.unsqueeze(1), rows], strict=True))
        # LPs show better where to look, unless they exclude it all.
        for by_lps, random in ((False, restarts(self.relaxation.network)), (True, BESIDE)):
            own = [key for key in starts if self._by_lps_first(key[0]) == by_lps]
            self._search({key: starts[key] for key in own}, random)
        unknown = [i for i in batch if self.decisions[i].verdict == "unknown"]
        self.deadline.tell(len(batch) - len(unknown))
        for done, i in enumerate(unknown):
            left_seconds = self.deadline.left
            share = None if left_seconds is None else left_seconds / (len(unknown) - done)
            match self.searches[i]:
                case None:
                    self._exclude_all(i)
                case _:
                    if self._by_lps_first(i):
                        self._exclude_all(i)
                    if self.decisions[i].verdict == "unknown":
                        self._searched(i, Deadline(share))
            self.deadline.tell(1)

    def _by_lps_first(self, i: int) -> bool:
        """Whether LPs of a whole input come before its search, which is quick."""
        return self.searches[i] == "relu_split" and self.relaxation.unstable[i] <= LIGHT

    def _places(self, indices: Sequence[int]) -> Tensor:
        """Indices, where the relaxation is."""
        return torch.tensor(indices, dtype=torch.long).to(self.device)

    def _rows(self, disjuncts: Sequence[int]) -> Tensor:
        """The rows of these disjuncts, (disjuncts, rows), where the relaxation is."""
        rows = torch.tensor([self.disjuncts[k] for k in disjuncts], dtype=torch.long)
        return rows.reshape(len(disjuncts), len(self.disjuncts[0])).to(self.device)

    def _left(self, i: int) -> list[int]:
        """The disjuncts of an open input that no bound excludes yet, the worst off first."""
        decision = self.decisions[i]
        return left_of(decision, self.disjuncts) if decision.verdict == "unknown" else []

    def _learn(
        self, solution: Solution, relaxation: Relaxation, images: Sequence[int], rows: Sequence[int]
    ) -> None:
        """Keep the better bound of each row, and see whether they exclude all disjuncts."""
        # Evaluated in float64, whatever the relaxation is in.
        proof = trusted(soundly(solution, relaxation)).double().cpu()
        bounds = difference_below(proof, self.needed[list(images)][:, list(rows)])
        for at, (i, found) in enumerate(zip(images, bounds.tolist(), strict=True)):
            decision = self.decisions[i]
            decision.method = solution.method
            for position, (row, bound) in enumerate(zip(rows, found, strict=True)):
                decision.lower[row] = max(decision.lower[row], bound)
                if bound > 0 and self.proof is not None:
                    self._note(i, row, solution, at, position)
            if proved(decision.lower, self.disjuncts):
                self._proved(i)

    def _note(self, i: int, row: int, solution: Solution, at: int, position: int) -> None:
        """Keep what excludes the disjuncts of a row: LP (at, position) of the solution."""
        for k, rows in enumerate(self.whole):
            if row in rows and k not in self.excluded[i]:
                one = rows.index(row)
                if solution.method == "adaptive_slope":
                    self.excluded[i][k] = Leaf("adaptive", one)
                else:
                    found = solution.certificate.multipliers
                    nu = (each[at, position].flatten().cpu() for each in found)
                    weights = torch.zeros(len(rows)).index_fill(0, torch.tensor([one]), 1.0)
                    refutation = Refutation({}, weights, tuple(nu))
                    self.excluded[i][k] = ReluTree(leaves={0: 0}, refutations=[refutation])

    def _proved(
        self, i: int, root: Relaxation | None = None, stated: Sequence[Kept] | None = None
    ) -> None:
        """The one place where a verdict becomes "unsat".

        root, stated: the relaxation that its disjuncts were excluded on, where it is another, and
        what its l and u are found by.
        """
        self.decisions[i].verdict = "unsat"
        if self.proof is not None:
            whole = self._whole(i) if root is None else root
            whole = whole.convert(lambda tensor: tensor.cpu())
            excluded = [self.excluded[i][k] for k in range(len(self.whole))]
            self.proof.add(self.numbers[i], CaseProof(whole, self.whole, excluded, stated))

    def _exclude_all(self, i: int) -> None:
        """Where even the worst disjunct is excluded, it is worth while to try the others."""
        worst, *others = self._left(i)
        if self._exclude(i, [worst]) and others:
            self._exclude(i, others)

    def _exclude(self, i: int, disjuncts: Sequence[int]) -> bool:
        """Whether the LP optima of these disjuncts' rows exclude them all.

        Where they do not, the points where they are attained start another attack.
        """
        if self.deadline.passed:
            return False
        rows = list(dict.fromkeys(row for k in disjuncts for row in self.disjuncts[k]))
        part = self.relaxation.take(self._places([i]), self._places(rows))
        with self.clock("exact"):
            solution = solve(
                part, method="exact", time_limit=self.deadline.limit, sign_only=True, sound=False
            )
            self._learn(solution, part, [i], rows)
        points = dict(zip(rows, solution.certificate.x[0].to(part.C), strict=True))
        left = [k for k in disjuncts if not proved(self.decisions[i].lower, [self.disjuncts[k]])]
        starts = {(i, k): torch.stack([points[r] for r in self.disjuncts[k]]) for k in left}
        self._search(starts, restarts(self.relaxation.network))
        return not left

    def _whole(self, i: int) -> Relaxation:
        """What is asked of one input, in float64, less what rows have to exceed."""
        rows = torch.arange(len(self.decisions[i].lower), device=self.device)
        whole = self.relaxation.take(self._places([i]), rows).double()
        d = difference_below(whole.d, self.margin[i : i + 1].to(whole.d))
        return replace(whole, network=with_biases(whole.network), d=d)

    def _searched(self, i: int, deadline: Deadline) -> None:
        """The search of one input, and what follows for it."""

        def confirm(points: Tensor) -> bool:
            method = self.decisions[i].method
            return any(self._confirm(i, point, method) for point in points)

        one = OneInput(
            whole=self._whole(i),
            decision=self.decisions[i],
            disjuncts=self.disjuncts,
            cases=self.whole,
            excluded=self.excluded[i],
            proving=self.proof is not None,
            asked=self.asked,
            confirm=confirm,
            watch=partial(self.watch, i),
            clock=self.clock,
            generator=self.generator,
            page=partial(self._page, i),
        )
        if self.searches[i] == "input_split":
            if one.split_inputs(deadline):
                self._proved(i)
        elif (proved_on := one.split_relus(deadline)) is not None:
            self._proved(i, *proved_on)

    def _page(self, i: int, kind: str) -> Page | None:
        """Where a search of input i is noted, if anywhere."""
        if self.journal is None:
            return None
        return self.journal.page(f"{self.numbers[i]}.{kind}", self.generator)

    def _search(self, starts: dict[tuple[int, int], Tensor], random: int) -> None:
        """Attack the disjuncts k of the inputs i, from points (points, *input_shape) for each, and
        so many random ones."""
        relaxation = self.relaxation
        numbers = pass_numbers(relaxation.network) * random
        at_a_time = max(1, CHUNK // numbers)
        for first in range(0, len(starts), at_a_time):
            targets = list(starts)[first : first + at_a_time]
            if self.deadline.passed:
                return
            images, rows = (
                self._places([i for i, _ in targets]),
                self._rows([k for _, k in targets]),
            )
            with self.clock("attack"):
                points, values = attack(
                    relaxation.network,
                    relaxation.input_set.convert(lambda tensor: tensor[images]),  # noqa: B023
                    relaxation.C[images.unsqueeze(1), rows],
                    relaxation.d[images.unsqueeze(1), rows],
                    torch.stack([starts[target] for target in targets]),
                    random=random,
                    generator=self.generator,
                    deadline=self.deadline,
                )
            for (i, _), point, value in zip(targets, points, values.tolist(), strict=True):
                if value <= 0 and self.decisions[i].verdict == "unknown":
                    self._confirm(i, point, "attack")

    def _confirm(self, i: int, point: Tensor, method: str) -> bool:
        """The one place where a verdict becomes "sat"."""
        decision = self.decisions[i]
        with self.clock("replay"):
            decision.counterexample = self.replay(i, point)
        if decision.counterexample is not None:
            decision.verdict, decision.method = "sat", method
        return decision.verdict == "sat"
