"""Verdicts for the inputs of a data set: does a classifier keep its answers nearby?"""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn

from bounds.certification.counterexample import Counterexample, proved_unsafe
from bounds.certification.decide import Decision, Replay
from bounds.certification.run import Certification, Run
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.load import load
from bounds.read.torch.from_torch import from_torch
from bounds.relaxation.specification import Specification, margins
from bounds.sets.ball import Ball, Number

#: Inputs that are relaxed together.
BATCH = 32


def certify(
    model: Network | nn.Module | str | os.PathLike[str],
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    timeout: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    deployed: torch.dtype | None = None,
) -> Certification:
    """Whether every margin z_y − z_j is positive on a ball around each input.

    One backward pass bounds the margins; an attack looks for a negative one where that does not
    suffice; the LP optimum decides what it can of the rest. The rows of the result are those of
    `margins`.

    Args:
        model: a `Network`, a torch module, or the path of an .onnx or .pt2 file.
        x: one input or a batch. Where the model is a module, x is a batch if y is one.
        y: the right class, or one class an input, (batch,).
        radius, norm, lower, upper: as for `Ball`.
        timeout: in seconds, for all inputs; what is open then is "unknown".
        seed: of the attack.
        dtype: what one-pass bounds and attacks compute in, on the device of x. Proofs are in
            float64 whatever it is, of the network with parameters rounded to it.

        deployed: the dtype that the network is evaluated in where it is used, if proofs are to hold
            for that as well; see `bounds.solution.deployment`. Default: they hold over the reals.

    Raises:
        InvalidInputError: what `Ball`, `margins` and `relax` refuse, or a timeout of 0 or less.
        ModelFileError, UnsupportedLayerError: what the readers of models refuse.
    """
    run = Run(timeout, seed, deployed)
    if not isinstance(x, Tensor):
        raise InvalidInputError(f"certify got x of type {type(x).__name__}, expected a tensor.")
    labels = torch.as_tensor(y)
    if isinstance(model, nn.Module):
        shape = tuple(x.shape[1:] if labels.dim() else x.shape)
        network = from_torch(model, shape, dtype=dtype)
    else:
        network = model if isinstance(model, Network) else load(model, dtype=dtype)
    network, x = network.detach().to(x.device, dtype), x.detach().to(dtype)
    if x.shape == network.input_shape:
        x = x.unsqueeze(0)
    whole = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
    whole.resolve(network.input_shape)  # refuses what is ambiguous, before it is cut into parts
    if labels.numel() not in (1, len(x)):
        raise InvalidInputError(
            f"certify got {labels.numel()} labels for {len(x)} inputs: give one, or one an input."
        )
    C = margins(labels.expand(len(x)), math.prod(network.output_shape)).C
    rows = [[row] for row in range(C.shape[1])]
    decisions: list[Decision] = []
    for part in torch.arange(len(x)).split(BATCH):
        ball, specification = whole.take(part), Specification(C[part])
        decisions += run.decide(network, ball, specification, rows, _replay(network, C[part], rows))
    return run.certification(decisions)


def _replay(network: Network, C: Tensor, rows: list[list[int]]) -> Replay:
    network = network.to("cpu", torch.float64)

    def replay(i: int, point: Tensor) -> Counterexample | None:
        point, specification = point.detach().cpu().double(), Specification(C[i].cpu())
        if not proved_unsafe(network, point, point, specification, rows):
            return None
        return Counterexample(point, network(point.unsqueeze(0))[0], "bounds")

    return replay
