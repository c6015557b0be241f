"""The LPs of intermediate bounds: rows over the layers below a ReLU, solved to the optimum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from bounds.solution.solution import Status
from bounds.solvers.solve import solve

#: Relative gap: about ten units of a float32.
TOLERANCE = 1e-6


class LayerLP:
    """Optimal multipliers of rows on a node, as constants for gradients.

    unsolved: (batch,), how many LPs of each input ended without an optimum so far. Their
    multipliers are the best that were found, and 0 where the arithmetic broke down.
    """

    def __init__(self, network: Network, input_set: InputSet, max_memory: int | None) -> None:
        self._network, self._max_memory = network.detach(), max_memory
        self._input_set = input_set.convert(Tensor.detach)
        self.unsolved = torch.zeros(len(input_set), dtype=torch.long)

    def multipliers(
        self, relu_bounds: Sequence[ReluBounds], start: int, rows: Tensor
    ) -> tuple[Tensor, ...]:
        """ν at each ReLU below the node `start`, for rows (batch, rows, *shape of the node)."""
        part = Relaxation(
            Network(self._network.nodes[: start + 1]),
            self._input_set,
            rows,
            torch.zeros_like(rows.flatten(2)[:, :, 0]),
            tuple(neurons.convert(Tensor.detach) for neurons in relu_bounds),
            intermediate="lp",
        )
        solution = solve(
            part, method="exact", tolerance=TOLERANCE, sound=False, max_memory=self._max_memory
        )
        self.unsolved += (solution.status != Status.OPTIMAL).sum(1).cpu()
        return tuple(
            torch.where(torch.isfinite(nu), nu, 0.0).to(rows)
            for nu in solution.certificate.multipliers
        )
