"""What deployment can add over a box, from its parts: each has smaller numbers, which round less.

What bounds the rounding for every part of a box bounds it for the box. Of few inputs a few parts
are enough to make the bound ten times as small, where that of the whole would hide every proof.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.certification.choice import FEW
from bounds.intermediate.relax import relax
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.sets.box import Box
from bounds.solution.deployment import deployment_margin

#: Parts of all boxes of a batch together.
PARTS = 32


def margin_by_parts(
    relaxation: Relaxation, dtype: torch.dtype, *, time_limit: float | None
) -> Tensor:
    """As `deployment_margin`, (batch, rows), and never above it; time_limit: as for `relax`."""
    whole, box = deployment_margin(relaxation, dtype), relaxation.input_set
    halvings = max(PARTS // len(whole), 1).bit_length() - 1
    moving = (box.upper > box.lower).flatten(1).sum(1)
    if not isinstance(box, Box) or not halvings or int(moving.max()) > FEW:
        return whole
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    for _ in range(halvings):
        widest = (upper - lower).argmax(1, keepdim=True)
        middle = (lower + (upper - lower) / 2).gather(1, widest)
        lower, upper = (
            torch.cat((lower, lower.scatter(1, widest, middle))),
            torch.cat((upper.scatter(1, widest, middle), upper)),
        )
    parts = len(lower) // len(whole)
    shape = relaxation.network.input_shape
    ends = Box(lower.reshape(-1, *shape), upper.reshape(-1, *shape))
    rows = Specification(relaxation.C.flatten(2).repeat(parts, 1, 1))
    found = relax(relaxation.network, ends, rows, slope="adaptive", time_limit=time_limit)
    each = deployment_margin(found, dtype).reshape(parts, *whole.shape)
    return torch.minimum(whole, each.amax(0))
