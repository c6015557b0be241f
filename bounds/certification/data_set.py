"""Verdicts for the inputs of a data set: does a classifier keep its answers nearby?"""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn

from bounds.arguments import class_labels, number_of_classes, require_floats, require_type
from bounds.certification.choice import Method
from bounds.certification.counterexample import Counterexample, Judge, runtime_of
from bounds.certification.decision import Decision, Replay, Watch
from bounds.certification.run import Certification, Run
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.model import network_of, ordinary
from bounds.relaxation.specification import Specification, answers
from bounds.sets.ball import Ball
from bounds.sets.numbers import Number

#: Inputs that are relaxed together.
BATCH = 32


@torch.inference_mode(False)
def certify(
    model: Network | nn.Module | str | os.PathLike[str],
    x: Tensor,
    y: Tensor | int | None = None,
    *,
    rows: Specification | None = None,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    timeout: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    deployed: torch.dtype | None = None,
    method: Method = "auto",
    watch: Watch | None = None,
    proof: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Certification:
    """Whether every margin z_y − z_j, or other row, is positive on a ball around each input.

    One backward pass bounds the margins; an attack looks for a negative one where that does not
    suffice; of the rest, the LP optimum decides what it can, or a search of the ball's parts. The
    rows of the result are those of `margins`, or `rows`.

    Args:
        model: a `Network`, a torch module, or the path of an .onnx or .pt2 file. Counterexamples of
            .onnx files are replayed by ONNX Runtime where it is installed; see
            `bounds.certification.counterexample`.
        x: a batch of inputs, (batch, *input_shape), in any floating dtype. One input without a
            batch axis will do where the model says its shape: for a `Network` or a file. Proofs are
            about the balls around these very numbers, whatever `dtype` is.
        y: one class an input, (batch,), or one number for all of them. Of a model with a single
            logit the class is 1 where that is positive and 0 where it is negative.
        rows: in place of y, what is to be positive: of a regression, say. A counterexample makes
            one of them negative.
        radius, norm, lower, upper: as for `Ball`.
        timeout: in seconds, for all inputs; what is open then is "unknown". Without one, a search
            that was not asked for by `method` ends after 100,000 boxes an input, or 2,000 nodes.
        seed: of the attack.
        dtype: what one-pass bounds and attacks compute in, on the device of x. Proofs are in
            float64 whatever it is, of the network with parameters rounded to it.
        deployed: the dtype that the network is evaluated in where it is used, if proofs are to hold
            for that as well; see `bounds.solution.deployment`. Default: they hold over the reals.
        method: what follows one pass and an attack. "input_split": a search of the box's parts
            (branch and bound), complete, and quick where few inputs move. "relu_split": a search of
            the phases of its ReLUs, complete on any set. "no_split": the LP optimum of the whole
            set. "auto": the first where at most 30 inputs can move, else the second, but
            without a timeout only up to 3,000 unstable neurons; `Certification.chosen` says which.
        watch: is told, after every batch of a search, which input it is and how far.
        proof: the path of a file for what proves the inputs that are "unsat"
            (`bounds.solution.proof_file`), which `bounds check` proves again; none is written where
            there is nothing to prove. `Certification.proof` says what was.
        journal: the path of a file that says how far searches are, written every few seconds
            (`bounds.search.journal`). The same call goes on from there, after a kill or with more
            time; one that asks anything else is refused. Trees of boxes are taken from it as they
            are: it is to be trusted as what is in memory is, or its proof to be checked.
        progress: whether a bar on standard error shows how many inputs are done.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was known when Ctrl-C came; the rest is
            "unknown", and no proof is written.
        InvalidInputError: what `Ball`, `margins` and `relax` refuse, labels that are not one an
            input, a timeout of 0 or less, or an option of another type.
        ModelFileError, UnsupportedLayerError: what the readers of models refuse.

    >>> import torch
    >>> x = torch.tensor([[2.0, 0.0], [0.5, 0.0]])
    >>> certify(torch.nn.Identity(), x, 0, radius=0.5).verdicts
    ('unsat', 'sat')
    """
    run = Run(
        "certify",
        timeout=timeout,
        seed=seed,
        dtype=dtype,
        deployed=deployed,
        method=method,
        watch=watch,
        proof=proof,
        journal=journal,
        progress=progress,
    )
    x = ordinary(require_floats("certify", "x", x)).detach()
    network = network_of("certify", model, x, dtype=dtype, files=True).detach()
    network = network.to(x.device)
    if x.shape == network.input_shape and not isinstance(model, nn.Module):
        x = x.unsqueeze(0)
    whole = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
    whole.resolve(network.input_shape)  # refuses what is ambiguous, before it is cut into parts
    rows = _rows(network, x, y, rows)
    confirm = _confirmation(model, network, whole, rows)
    disjuncts = [[row] for row in range(rows.C.shape[-2])]
    decisions = [Decision([-math.inf] * len(disjuncts)) for _ in x]
    sets = whole.grown(dtype, network.input_shape).resolve(network.input_shape)
    run.open_journal(network, inputs=sets, rows=rows)
    with run.keeping(decisions, "inputs"):
        for part in torch.arange(len(x)).split(BATCH):
            numbers = part.tolist()
            run.decide(
                network,
                whole.take(part).grown(dtype, network.input_shape),
                rows.take(part),
                disjuncts,
                lambda i, point, numbers=numbers: confirm(numbers[i], point),  # type: ignore[misc]
                numbers=numbers,
                decisions=[decisions[number] for number in numbers],
            )
    return run.certification(decisions, run.save_proof(network, "inputs"))


def _rows(
    network: Network, x: Tensor, y: Tensor | int | None, rows: Specification | None
) -> Specification:
    """What is to be positive for each input."""
    if (y is None) == (rows is None):
        raise InvalidInputError(
            f"certify got {'neither' if y is None else 'both'} y and rows, expected one of them: "
            "the class of each input, or a Specification."
        )
    if rows is not None:
        require_type("certify(rows)", rows, Specification, "make one with Specification(C, d)")
        return rows
    classes = number_of_classes("certify", network.output_shape)
    labels = class_labels("certify", y, len(x), max(classes, 2)).to(x.device)
    return answers(labels, classes)


def _confirmation(
    model: Network | nn.Module | str | os.PathLike[str],
    network: Network,
    whole: Ball,
    rows: Specification,
) -> Replay:
    """Given the position of an input and a point: the counterexample close to it, if there is one.

    It is looked for in the dtype of the model, or else in float64.
    """
    own, runtime = _dtype_of(model) or whole.x.dtype, runtime_of(model, network)
    exact = network.to("cpu", torch.float64)
    rows = Specification(rows.C.cpu(), None if rows.d is None else rows.d.cpu())

    def confirm(index: int, point: Tensor) -> Counterexample | None:
        number = torch.tensor([index])
        ball, own_rows = whole.take(number), rows.take(number)
        judge = Judge(
            exact,
            own_rows,
            [[row] for row in range(rows.C.shape[-2])],
            contains=ball.holds,
            violated_by=own_rows.fails,
            runtime=runtime(),
        )
        point = point.detach().cpu()
        return judge.admit(lambda dtype: ball.nearby(point, dtype), own, torch.float64)

    return confirm


def _dtype_of(model: object) -> torch.dtype | None:
    """What a model that is in memory computes in."""
    if isinstance(model, nn.Module):
        tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    else:
        tensors = list(model.parameters) if isinstance(model, Network) else []
    return tensors[0].dtype if tensors else None
