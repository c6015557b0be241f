"""The LPs of intermediate bounds: rows over the layers below a ReLU, solved to the optimum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from bounds.solution.status import Status
from bounds.solvers.solve import solve

#: Relative gap: about ten units of a float32.
TOLERANCE = 1e-6


class LayerLP:
    """Optimal multipliers of rows on a node, as constants for gradients.

    unsolved: (batch,), how many LPs of each input ended without an optimum so far. Their
    multipliers are the best that were found, and 0 where the arithmetic broke down.
    """

    def __init__(
        self, network: Network, input_set: InputSet, max_memory: int | None, deadline: Deadline
    ) -> None:
        self._network, self._max_memory, self._deadline = network.detach(), max_memory, deadline
        self._input_set = input_set.convert(Tensor.detach)
        self.unsolved = torch.zeros(len(input_set), dtype=torch.long)

    def multipliers(
        self, relu_bounds: Sequence[ReluBounds], start: int, rows: Tensor
    ) -> tuple[Tensor, ...]:
        """ν at each ReLU below the node `start`, for rows (batch, rows, *shape of the node)."""
        network, kept = self._network.ending_at(start)
        part = Relaxation(
            network,
            self._input_set,
            rows,
            torch.zeros_like(rows.flatten(2)[:, :, 0]),
            tuple(relu_bounds[position].convert(Tensor.detach) for position in kept),
            intermediate="lp",
        )
        solution = solve(
            part,
            method="exact",
            tolerance=TOLERANCE,
            time_limit=self._deadline.limit,
            sound=False,
            max_memory=self._max_memory,
        )
        self.unsolved += (solution.status != Status.OPTIMAL).sum(1).cpu()
        # No row depends on the others' multipliers.
        found = [torch.zeros_like(neurons.lower).unsqueeze(1).to(rows) for neurons in relu_bounds]
        for position, nu in zip(kept, solution.certificate.multipliers, strict=True):
            found[position] = torch.where(torch.isfinite(nu), nu, 0.0).to(rows)
        return tuple(found)
