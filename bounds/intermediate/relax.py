"""`bounds.relax`: from a network, a ball and a specification to the LPs."""

from __future__ import annotations

from typing import get_args

from bounds.arguments import require_option, require_time_limit, require_type, shown
from bounds.errors import InvalidInputError
from bounds.intermediate.intermediate import SWEEPS, Intermediate, Slope, relu_bounds
from bounds.network.graph import Network
from bounds.network.memory import require_bytes
from bounds.progress import at_work
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.rounding import plain_arithmetic
from bounds.sets.ball import Ball
from bounds.sets.box import Box, InputSet


def relax(
    network: Network,
    ball: Ball | Box,
    specification: Specification,
    *,
    intermediate: Intermediate = "backward",
    slope: Slope = "fixed",
    max_memory: int | None = None,
    time_limit: float | None = None,
    progress: bool = False,
) -> Relaxation:
    """Relax every ReLU of `network` over `ball`, or over a box, for the rows of `specification`.

    Args:
        intermediate: how l and u are found: "interval" (boxes), "backward" (the dual bound of the
            layers below, for the neurons that boxes leave unstable), "optimised" (the better of
            both slopes, and then slopes optimised for each bound that is unstable still), or "lp"
            (first "backward", and then the LP optimum for each bound that is unstable still; to a
            relative gap of 1e-6, or as far as the LP came: see `Relaxation.unsolved`).
        slope: the dual bound that "backward" uses, "fixed" (Wong–Kolter) or "adaptive" (CROWN).
        max_memory: bytes that the passes may take, besides the result; they are cut into parts that
            fit. Default: a quarter of the device's free memory.
        time_limit: seconds, default none. Bounds that are not found by then are those of "interval"
            or "backward", and the relaxation is `timed_out`.
        progress: whether a bar on standard error shows how many layers of inputs are bounded.

    Returns:
        A frozen `Relaxation`, whose l and u hold for the network over the reals, rounding included;
        differentiable with respect to the parameters, the centre and the radius; "optimised" and
        "lp" at the multipliers that they found, as constants.

    Raises:
        Interrupted: a KeyboardInterrupt, with the relaxation as it is where the time is up.
        InvalidInputError: an argument of another type or option, a set or rows that do not fit the
            network, or numbers that overflow.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.Sequential(torch.nn.ReLU()), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.zeros(1, 2, dtype=torch.float64), radius=1.0)
    >>> relax(net, ball, bounds.margins(0, classes=2)).unstable
    (2,)
    """
    require_type("relax", network, Network, "read the model with bounds.from_torch(model, shape)")
    require_type(
        "relax", specification, Specification, "make one with bounds.margins(label, classes)"
    )
    require_option("relax", "intermediate", intermediate, get_args(Intermediate))
    require_option("relax", "slope", slope, get_args(Slope))
    require_bytes("relax", max_memory)
    time_limit = require_time_limit("relax", time_limit)
    input_set = matching_set("relax", network, ball)
    C, d = specification.resolve(len(input_set), network.output_shape, input_set.lower)
    layers = len(input_set) * len(network.relus) * SWEEPS.get(intermediate, 1)
    with at_work(
        "relax", progress=progress, total=layers, unit="layers", time_limit=time_limit
    ) as work:
        with plain_arithmetic():
            found = relu_bounds(
                network,
                input_set,
                method=intermediate,
                slope=slope,
                max_memory=max_memory,
                deadline=work.deadline,
            )
        used = slope if intermediate in ("backward", "lp") else None
        unsolved = found.unsolved if intermediate == "lp" else ()
        relaxation = Relaxation(
            network, input_set, C, d, found.layers, intermediate, used, unsolved, found.timed_out
        )
        return work.done(relaxation)


def matching_set(call: str, network: Network, ball: Ball | Box) -> InputSet:
    """The set that `ball` is, for a network of the same dtype on the same device."""
    if not isinstance(ball, (Ball, Box)):
        raise InvalidInputError(
            f"{call} got {shown(ball)}, expected a set of inputs: make one with bounds.Ball(x, "
            "radius=…) or bounds.Box(lower, upper)."
        )
    input_set = ball.resolve(network.input_shape)
    network.require_batch(call, input_set.lower)
    return input_set
