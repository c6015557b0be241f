"""What evaluating a network in floating point can add to a proof about its real-valued self.

A bound here is a theorem about the network over the reals, with the weights as they are stored.
What ships computes in float32, say, and rounds. Where every affine operation is evaluated as sums
of products in that dtype, in whatever order, fused or not, its outputs differ from the real ones by
at most what `deployment_margin` says, for every input of the set; a row proved above it stays
positive as deployed. It is a worst case, and grows with the sizes of the layers and of the values
in them.

Not covered: faster convolutions (Winograd, Fourier), TF32 or bfloat16 inside float32 products,
quantisation, and layers that are deployed as other operations than the `Network` has (a batch
normalisation in more steps, say).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.arguments import require_dtype, require_type
from bounds.dual.primal import evaluation_errors
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import gamma, plain_arithmetic, up, weighted


@torch.no_grad()
def deployment_margin(relaxation: Relaxation, dtype: torch.dtype) -> Tensor:
    """How far each row can fall, from its real value, where the network is evaluated in `dtype` and
    the row itself exactly, as by comparing outputs; (batch, rows), in float64.

    Infinite where sums are so long that the dtype bounds little, or may overflow it. Raises
    InvalidInputError for what is no Relaxation, and for a dtype that is neither float32 nor
    float64.

    >>> import bounds
    >>> net = bounds.from_torch(torch.nn.Linear(2, 2), (2,))
    >>> ball = bounds.Ball(torch.zeros(1, 2), radius=1.0)
    >>> margin = deployment_margin(bounds.relax(net, ball, bounds.margins(0, 2)), torch.float32)
    >>> 0 < margin.item() < 1e-5
    True
    """
    remedy = "make one with bounds.relax(net, ball, spec)"
    require_type("deployment_margin", relaxation, Relaxation, remedy)
    require_dtype("deployment_margin", "dtype", dtype)
    exact = relaxation.double()
    with plain_arithmetic():
        ranges = exact.ranges()
        errors = evaluation_errors(exact.network, ranges, exact.relu_bounds, dtype)
        outputs = errors[-1]
        spare = 1 + gamma(outputs[0].numel(), outputs.dtype)
        margin = up(weighted(exact.C, spare * outputs))
        # Of an output that is not compared, an error without end makes no number.
        return torch.where(margin.isnan(), torch.inf, margin)
