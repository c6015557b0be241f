"""Is the network that was read the model? Both are evaluated on a few inputs and compared.

A reader translates what a model is written as; what it computes may be something else: random
numbers that were drawn once, an operator that a reader takes for another, a file that a runtime
reads otherwise. No tolerance is chosen: outputs may differ by what rounding can do to them. That is
bounded along the network, for each input: a pass in which every operation adds at most γ |W| |z| to
the error of its sums (`bounds.rounding.gamma`), and passes errors on by |W|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from bounds.errors import UnsupportedLayerError
from bounds.network.build.builder import NetworkBuilder
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.rounding import floor, gamma, plain_arithmetic

#: Inputs are of these sizes, of both signs, besides those between 0 and 1.
SCALES = (0.1, 1.0, 10.0)
#: The model may sum in another order, and normalise before it scales: its own rounding is this many
#: times that of the network at most.
SHARE = 8
#: Products of all inputs together: of large networks fewer inputs are compared.
AFFORDED = 2**32
#: Numbers of all inputs and layers together.
ROOM = 2**26


def points(network: Network) -> Tensor:
    """The inputs to compare, in float64 on the CPU."""
    dice, float64 = torch.Generator().manual_seed(0), torch.float64
    size = (len(SCALES), *network.input_shape)
    scales = torch.tensor(SCALES, dtype=float64, device="cpu").reshape(-1, *[1] * (len(size) - 1))
    scaled = scales * torch.randn(size, generator=dice, dtype=float64, device="cpu")
    unit = torch.rand((1, *size[1:]), generator=dice, dtype=float64, device="cpu")
    return torch.cat((scaled[1:2], unit, -scaled, scaled[::2]))


def require_agreement(
    call: str,
    network: Network,
    build: NetworkBuilder,
    evaluate: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
) -> None:
    """Refuse a network that differs from its model, or a model that differs from itself.

    evaluate: the model, from a batch of inputs, in `dtype`, to its outputs.
    """
    network = network.detach()
    affordable = min(AFFORDED // (build.products + 1), ROOM // (build.numbers + 1))
    x = points(network)[: max(1, affordable)].to(dtype)
    with torch.no_grad(), _own_precision(build.device):
        outputs, again, alone = (
            _checked(call, evaluate(part.clone()), len(part)) for part in (x, x, x[-1:])
        )
        y, error = _with_rounding(network, x.to(build.device, build.dtype), dtype)
        if build.last is not None:
            y, error = build.last(y), 2 * error
    y, outputs, again, alone = (t.double().cpu().flatten(1) for t in (y, outputs, again, alone))
    error = error.double().cpu().flatten(1)
    if outputs.shape != y.shape:
        raise UnsupportedLayerError(
            f"{call}: the model returns {outputs.shape[1]} numbers a sample, and the network read "
            f"from it {y.shape[1]}: write the model anew, with one row a sample."
        )
    # What overflows in either has no difference.
    finite = torch.isfinite(y) & torch.isfinite(outputs) & torch.isfinite(again)
    alone = torch.cat((outputs[:-1], alone))
    largest = outputs.where(finite, 0).abs().amax(1, keepdim=True)
    repeat = torch.minimum(error, math.sqrt(torch.finfo(dtype).eps) * largest)
    for what, other, allowed in (
        ("two evaluations of the model differ", again, repeat),
        ("what the model returns for an input depends on the batch it is in", alone, error),
        ("the network read from the model differs from it", y, error),
    ):
        difference = (other - outputs).abs()
        excess = (difference - allowed).where(finite, -1.0)
        if bool((excess > 0).any()):
            worst = int(excess.argmax())
            raise UnsupportedLayerError(
                f"{call}: {what}, by {float(difference.flatten()[worst]):.3g} where rounding "
                f"explains {float(allowed.flatten()[worst]):.3g}: leave random numbers, other "
                "number formats and state out of forward."
            )


@contextmanager
def _own_precision(device: torch.device) -> Iterator[None]:
    """No sums in less than the dtype of the operands.

    `plain_arithmetic` switches what all threads share, and is left alone where nothing asks for it.
    """
    reduced = device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    with (
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        plain_arithmetic() if reduced else nullcontext(),
    ):
        yield


def _checked(call: str, outputs: object, count: int) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.dim() < 1 or len(outputs) != count:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UnsupportedLayerError(
            f"{call}: the model returns {got} for {count} inputs, expected one row a sample: wrap "
            "it so that it returns its logits."
        )
    return outputs


def _with_rounding(network: Network, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The network's outputs, and by how much rounding in `dtype` and its own can change them."""
    coarse = max((dtype, x.dtype), key=lambda kind: torch.finfo(kind).eps)
    values: dict[int, Tensor] = {0: x}
    errors: dict[int, Tensor] = {0: x.abs() * torch.finfo(coarse).eps}
    for index, node in enumerate(network.nodes):
        match node:
            case InputNode():
                continue
            case AffineNode(parents=(parent,), operation=operation):
                values[index] = operation.forward(values[parent])
                sizes = values[parent].abs() + floor(coarse)
                charge = SHARE * gamma(operation.fan_in, coarse)
                absolute = operation.absolute()
                error = absolute.linear(errors[parent] + charge * sizes)
                if operation.offset is not None:
                    error = error + charge * operation.offset.abs()
                errors[index] = error
            case ReluNode(parents=(parent,)):
                values[index], errors[index] = values[parent].clamp(min=0), errors[parent]
            case SumNode(parents=parents):
                charge = SHARE * gamma(len(parents), coarse)
                values[index] = torch.stack([values[p] for p in parents]).sum(0)
                errors[index] = torch.stack(
                    [errors[p] + charge * values[p].abs() for p in parents]
                ).sum(0)
            case _:
                raise TypeError(f"agreement does not know {type(node).__name__}.")
    last = len(network.nodes) - 1
    return values[last], errors[last]
