"""What an exact solve costs by each method, and so which of them "exact" takes.

CPU seconds of one thread, as fitted to `benchmarks/exact/simplex.py`; S rows of an input with n
unstable neurons, d coordinates, and N numbers in its rows [A | L] that are not 0:

| method | once | an LP |
|---|---|---|
| interior point | 1.5e-2 a batch | 1e-4 + 4e-7 (2 d + 3 n) + 2e-7 n² + 3e-10 F |
| simplex, together | 6e-3 + 5e-4 (1 + 3 p) a batch | 1e-4 + (1 + p) (1.5e-5 + 6e-8 m) |
| simplex by HiGHS | 3e-3 an input | 4e-4 + 4e-7 (d + 4 n) + 2e-8 N + P s |
| pdhg | 1 | 10,000 passes through the network, an operation 1.2e-10 |

F = 0.3 n² (d + n) + n³ / 3 is what a Newton step takes; p = n² (1 + n / d)^½ / 600, but n at most,
and P = n (0.15 + N (1 + n / d)^½ / 1100 (d + n / 2)), but 3 n / 4 at most, are the pivots; m = d +
3 n + n² / 10, and s = 2e-5 + 2.2e-10 N (1 + n / d). The interior point and the simplex method for
LPs of at most 96 neurons solve inputs of alike sizes as one batch, while HiGHS, which the latter
leaves them to where that costs less, takes row by row, and profits from zeros, which convolutions
have many of. A layer reads the same share of what is unstable below as of its input. With more
neurons than coordinates, bases fill up. pdhg's passes run at an eighth of the speed of large matrix
products; to its own gap of 1e-6 it took what 500 to 3,000 of them cost on four networks' LPs, and
30,000 on those of a looser ball, where it is not the one to take. It needs no polyhedron, and no
matrices, which for the others have n (d + 3 n) numbers an LP.

Rows that see little of a network, like neurons of a convolution, move the n and d that they see
alone, also in P; the interior point presolves them.
"""

from __future__ import annotations

import math

import torch

from bounds.errors import InvalidInputError
from bounds.network.affine import Affine, Linear, Transposed
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, Network, SumNode
from bounds.network.memory import numbers_that_fit, on_cpu
from bounds.network.sparse import SparseLinear
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box
from bounds.sets.norm_balls import L1Ball
from bounds.solvers.interior_point.batches import alike
from bounds.solvers.interior_point.presolve import GAIN

#: The share of [A | L] that is not 0, which Newton's matrices are built from.
DENSITY = 0.3
#: Neurons at most of LPs that the simplex method solves many at once, instead of by HiGHS.
SMALL = 96
#: Seconds of a floating-point operation in the interior point, counted for one Newton step.
NEWTON = 3e-10
PASSES = 2 * 5000
#: Seconds of a floating-point operation in pdhg, and of the calls of all its passes.
PASS, CALLS = 1.2e-10, 1.0


def matrix_numbers(relaxation: Relaxation) -> int:
    """The numbers in the matrices of one LP: [A | L], and T twice."""
    n, d = max(relaxation.unstable), math.prod(relaxation.network.input_shape)
    return n * (d + 3 * n)


def require_matrices(method: str, relaxation: Relaxation, max_memory: int | None) -> None:
    """Refuse LPs whose matrices do not fit in memory."""
    needed, given = matrix_numbers(relaxation), numbers_that_fit(relaxation.C, max_memory)
    if needed > given:
        raise InvalidInputError(
            f"solve(method={method!r}) needs {8 * needed} bytes for the matrices of one LP with "
            f"{max(relaxation.unstable)} unstable neurons but has {8 * given}: give more with "
            "max_memory=..., or use method='pdhg'."
        )


def matrices_fit(relaxation: Relaxation, max_memory: int | None) -> bool:
    """Whether the input set is a polyhedron, and one LP's matrices fit in memory."""
    if not isinstance(relaxation.input_set, Box | L1Ball):
        return False
    return matrix_numbers(relaxation) <= numbers_that_fit(relaxation.C, max_memory)


def cheapest_exact_method(relaxation: Relaxation, max_memory: int | None) -> str:
    """ "interior_point", "simplex" or "pdhg", whichever is expected to take the least time on these
    LPs; "simplex" on CPUs alone."""
    if not matrices_fit(relaxation, max_memory):
        return "pdhg"
    expected = {"interior_point": _interior_point(relaxation), "pdhg": _pdhg(relaxation)}
    if on_cpu(relaxation.C):
        expected["simplex"] = _simplex(relaxation)
    return min(expected, key=lambda method: expected[method])


def _interior_point(relaxation: Relaxation) -> float:
    rows, seen = relaxation.C.shape[1], _seen(relaxation)
    d = seen * math.prod(relaxation.network.input_shape)
    seconds = 0.0
    for n in (seen * count for count in relaxation.unstable):
        step = DENSITY * n**2 * (d + n) + n**3 / 3
        seconds += rows * (1e-4 + 4e-7 * (2 * d + 3 * n) + 2e-7 * n**2 + NEWTON * step)
    return 1.5e-2 * sum(1 for _ in alike(relaxation)) + seconds


def _simplex(relaxation: Relaxation) -> float:
    """Small inputs together, and the others by HiGHS."""
    d, rows = math.prod(relaxation.network.input_shape), relaxation.C.shape[1]
    seen, seconds = _seen(relaxation), 0.0
    numbers, sizes = row_numbers(relaxation), torch.tensor(relaxation.unstable)
    for images in alike(relaxation):
        chosen = images.tolist()
        n = int(sizes[images.cpu()].max())
        if together(n, d, sum(numbers[image] for image in chosen) / len(chosen)):
            seconds += 6e-3 + 5e-4 * (1 + 3 * _few_pivots(n, d))
            seconds += rows * sum(_among_others(relaxation.unstable[image], d) for image in chosen)
            continue
        for image in chosen:
            seconds += 3e-3 + rows * _by_highs(relaxation.unstable[image], d, numbers[image], seen)
    return seconds


def together(n: int, d: int, numbers: float) -> bool:
    """Whether the simplex method solves LPs with so many unstable neurons and coordinates, and
    numbers in their rows, many at once, instead of one by one by HiGHS."""
    return n <= SMALL and _among_others(n, d) < _by_highs(n, d, numbers, 1.0)


def _among_others(n: int, d: int) -> float:
    step = 1.5e-5 + 6e-8 * (d + 3 * n) + 6e-9 * n**2
    return 1e-4 + (1 + _few_pivots(n, d)) * step


def _by_highs(n: int, d: int, numbers: float, seen: float) -> float:
    pivot = 2e-5 + 2.2e-10 * numbers * (1 + n / max(1, d))
    share = 0.15 + numbers * math.sqrt(1 + n / max(1, d)) / (1100 * max(1, d + n / 2))
    begin = 4e-4 + 4e-7 * (d + 4 * n) + 2e-8 * numbers
    return begin + min(0.75, share) * seen * n * pivot


def _few_pivots(n: int, d: int) -> float:
    return min(n, n**2 * math.sqrt(1 + n / max(1, d)) / 600)


def _pdhg(relaxation: Relaxation) -> float:
    return CALLS + relaxation.d.numel() * PASSES * PASS * pass_flops(relaxation.network)


def row_numbers(relaxation: Relaxation) -> list[float]:
    """About how many numbers of each input's rows [A | L] are not 0."""
    network = relaxation.network
    shares = _shares(network)
    below = [float(math.prod(network.input_shape))] * len(relaxation.input_set)
    numbers = [0.0] * len(below)
    for index, neurons in zip(network.relus, relaxation.relu_bounds, strict=True):
        share = shares[network.nodes[index].parents[0]]
        for image, n in enumerate(neurons.unstable.flatten(1).sum(1).tolist()):
            numbers[image] += share * n * below[image]
            below[image] += n
    return numbers


def _seen(relaxation: Relaxation) -> float:
    """The share of the network that a row sees, or 1 where that is too much for presolving."""
    entries = int((relaxation.C != 0).flatten(2).sum(2).amax())
    seen = min(1.0, entries * _shares(relaxation.network)[-1])
    return seen if relaxation.implied and GAIN * seen**3 < 1 else 1.0


def _shares(network: Network) -> list[float]:
    """Of each node, the share that one of its numbers reads of the layer below."""
    shares: list[float] = []
    for node in network.nodes:
        match node:
            case AffineNode(parents=(parent,), operation=operation):
                size = math.prod(network.nodes[parent].shape)
                shares.append(min(1.0, max(operation.fan_in / max(1, size), shares[parent])))
            case SumNode(parents=parents):
                shares.append(min(1.0, sum(shares[parent] for parent in parents)))
            case _:
                shares.append(0.0)
    return shares


def pass_flops(network: Network) -> int:
    """Floating-point operations of one pass through the network, for one sample."""
    return sum(node_flops(network))


def node_flops(network: Network) -> list[int]:
    """Of each node."""
    return [
        _flops(node.operation) if isinstance(node, AffineNode) else math.prod(node.shape)
        for node in network.nodes
    ]


def _flops(operation: Affine) -> int:
    match operation:
        case Linear() | SparseLinear():
            each = 2 * operation.fan_in
        case Convolution(weight=weight):
            each = 2 * math.prod(weight.shape[1:])
        case Transposed(operation=transposed):
            return _flops(transposed)
        case _:
            each = 1
    return each * math.prod(operation.output_shape)
