"""Verdicts for properties in VNN-LIB: has an input of these boxes an unsafe output?"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bounds.certification.choice import Method
from bounds.certification.counterexample import Counterexample, Runtime, replay, runtime_of
from bounds.certification.decision import Decision, Watch
from bounds.certification.run import Certification, Run
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.model import network_of
from bounds.read.vnnlib import read_vnnlib
from bounds.read.vnnlib.property import Case, Property

#: Cases that are relaxed together.
BATCH = 32


@torch.inference_mode(False)
def certify_vnnlib(
    model: Network | str | os.PathLike[str],
    property: Property | str | os.PathLike[str],
    *,
    timeout: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    deployed: torch.dtype | None = None,
    method: Method = "auto",
    watch: Watch | None = None,
    proof: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    output: str | None = None,
    progress: bool = False,
) -> Certification:
    """Whether a property holds, case by case; `.verdict` is that of the property.

    A case is proved ("unsat") where each of its disjuncts has a row that is positive on the whole
    box, or one on every part of it that a search has cut out. The rows of the result are those of
    all disjuncts, one after another. Once a case is "sat", the cases after it are left "unknown".

    Args:
        model: a `Network`, or the path of an .onnx or .pt2 file. Counterexamples of .onnx files are
            replayed by ONNX Runtime where it is installed; see
            `bounds.certification.counterexample`.
        property: what `read_vnnlib` returns, or the path of a .vnnlib file.
        timeout: in seconds, for the whole property; what is open then is "unknown". Without one, a
            search that was not asked for by `method` ends after 100,000 boxes a case, or 2,000
            nodes.
        seed: of the attack.
        device, dtype: where and in what one-pass bounds and attacks compute. Proofs are in float64
            whatever it is, of the network with parameters rounded to `dtype`.
        deployed: the dtype that the network is evaluated in where it is used, if proofs are to hold
            for that as well; see `bounds.solution.deployment`. Default: they hold over the reals.
        method: what follows one pass and an attack. "input_split": a search of the box's parts
            (branch and bound), complete, and quick where few inputs move. "relu_split": a search of
            the phases of its ReLUs, complete on any set. "no_split": the LP optimum of the whole
            set. "auto": the first where at most 30 inputs can move, else the second, but
            without a timeout only up to 3,000 unstable neurons; `Certification.chosen` says which.
        watch: is told, after every batch of a search, which case it is and how far.
        proof: the path of a file for what proves an "unsat" of the property
            (`bounds.solution.proof_file`), which `bounds check` proves again; none is written where
            there is nothing to prove. `Certification.proof` says what was.
        output: of an .onnx file that has several, the name of the one that the property is about.
        journal: as for `certify`: the file that says how far searches are, and that the same call
            goes on from.
        progress: whether a bar on standard error shows how many cases are done.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was known when Ctrl-C came; the rest is
            "unknown", and no proof is written.
        InvalidInputError: a file that `read_vnnlib` refuses, a property of other numbers of inputs
            or outputs than the network's, a timeout of 0 or less, or an option of another type.
        ModelFileError, UnsupportedLayerError: what the readers of models refuse.

    >>> import torch, bounds
    >>> from bounds.read.vnnlib import parse_vnnlib
    >>> net = bounds.from_torch(torch.nn.Identity(), (1,))
    >>> unsafe = parse_vnnlib('''(declare-const X_0 Real) (declare-const Y_0 Real)
    ... (assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= Y_0 2))''')
    >>> certify_vnnlib(net, unsafe).verdict
    'unsat'
    """
    run = Run(
        "certify_vnnlib",
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
    if not isinstance(property, Property):
        property = read_vnnlib(property)
    if isinstance(model, nn.Module):
        raise InvalidInputError(
            f"certify_vnnlib got a {type(model).__name__}, whose input shape is not known here: "
            "give bounds.from_torch(model, shape)."
        )
    network = network_of(
        "certify_vnnlib", model, torch.empty(0), dtype=dtype, files=True, output=output
    )
    network = network.detach().to(device)
    if proof is not None:
        property.require_exact()
    property.require_fit(network.input_shape, network.output_shape)
    return certify_property(
        run,
        network,
        property,
        runtime=runtime_of(model, network, output),
        dtype=dtype,
        device=device,
    )


def certify_property(
    run: Run,
    network: Network,
    property: Property,
    *,
    runtime: Callable[[], Runtime | None],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    accept: Callable[[Counterexample], bool] = lambda found: True,
) -> Certification:
    """The same for what is read already, and a network on that device. runtime: makes what replays
    counterexamples, if there is anything. accept: has the last word on them."""
    exact = network.to("cpu", torch.float64)
    decisions = [Decision([-math.inf] * sum(map(len, c.disjuncts))) for c in property.cases]
    run.open_journal(network, property=replace(property, name=""))
    with run.keeping(decisions, "cases"):
        for part in property.alike(BATCH):
            cases, found = [property.cases[k] for k in part], [decisions[k] for k in part]

            def confirm(
                i: int, point: Tensor, cases: Sequence[Case] = cases
            ) -> Counterexample | None:
                candidate = replay(cases[i], property, exact, runtime(), point)
                return candidate if candidate is not None and accept(candidate) else None

            run.decide(
                network,
                property.box(cases, network.input_shape, dtype).convert(lambda end: end.to(device)),
                property.specification(cases[0].disjuncts, grown=True, dtype=dtype),
                cases[0].rows,
                confirm,
                numbers=part,
                decisions=found,
            )
            if any(decision.verdict == "sat" for decision in found):
                break
    proved = all(decision.verdict == "unsat" for decision in decisions)
    return run.certification(decisions, run.save_proof(network, "property") if proved else None)
