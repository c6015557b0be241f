"""What an exact solve costs by each method, and so which of them "exact" takes.

The interior point needs, for each LP of n unstable neurons and d inputs, about NEWTON_STEPS times
n² (d + n) + n³ / 3 operations, and n (d + 2 n) numbers in memory. pdhg needs about PASSES passes
through the network for each LP, whose operations run at a PASS_RATE-th of the speed of large matrix
products, and little memory. The constants are rounded from `benchmarks/exact/exact_lp.py` and
`benchmarks/exact/pdhg.py` on two CPU cores.
"""

from __future__ import annotations

import math

from bounds.errors import InvalidInputError
from bounds.network.affine import Affine, Linear, Transposed
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, Network
from bounds.network.memory import numbers_that_fit
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box
from bounds.sets.norm_balls import L1Ball

NEWTON_STEPS = 20
#: The share of [A | L] that is not 0, which Newton's matrices are built from.
DENSITY = 0.3
PASSES = 2 * 5000
PASS_RATE = 8


def matrix_numbers(relaxation: Relaxation) -> int:
    """The numbers in the matrices of one LP of the interior point: [A | L], and T twice."""
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


def interior_point_fits(relaxation: Relaxation, max_memory: int | None) -> bool:
    """Whether the interior point takes such an input set, and one LP's matrices fit in memory."""
    if not isinstance(relaxation.input_set, Box | L1Ball):
        return False
    return matrix_numbers(relaxation) <= numbers_that_fit(relaxation.C, max_memory)


def cheaper_exact_method(relaxation: Relaxation, max_memory: int | None) -> str:
    """ "interior_point" or "pdhg", whichever is expected to take less time on these LPs."""
    if not interior_point_fits(relaxation, max_memory):
        return "pdhg"
    d = math.prod(relaxation.network.input_shape)
    newton = sum(DENSITY * n**2 * (d + n) + n**3 / 3 for n in relaxation.unstable)
    passes = len(relaxation.unstable) * PASSES * PASS_RATE * pass_flops(relaxation.network)
    return "interior_point" if NEWTON_STEPS * newton <= passes else "pdhg"


def pass_flops(network: Network) -> int:
    """Floating-point operations of one pass through the network, for one sample."""
    return sum(
        _flops(node.operation) if isinstance(node, AffineNode) else math.prod(node.shape)
        for node in network.nodes
    )


def _flops(operation: Affine) -> int:
    match operation:
        case Linear(weight=weight):
            each = 2 * weight.shape[1]
        case Convolution(weight=weight):
            each = 2 * math.prod(weight.shape[1:])
        case Transposed(operation=transposed):
            return _flops(transposed)
        case _:
            each = 1
    return each * math.prod(operation.output_shape)
