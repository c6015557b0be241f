"""What `bounds.attribute` returns: where the looseness of bounds comes from, as numbers, as a table
and as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bounds.analysis.waterfall import STEPS, draw
from bounds.arguments import require_whole
from bounds.files import require_plot

#: Ends that something lies between, each (batch, rows).
Interval: TypeAlias = tuple[Tensor, Tensor]
#: Costs of so small a part of the largest are what rounding leaves of none.
ROUNDING = 1e-9
#: Rows that a repr has a line for.
SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """What lies between a one-pass bound and the true minimum of each row; all (batch, rows).

    fixed_slope: the bound. lp: what the LP optimum with the same l and u lies between; lp_all: that
    with LP-optimal l and u; minimum: the true minimum, whose upper end is attained at x, (batch,
    rows, *input_shape). solved: whether both LPs, and those of all l and u, ended with an optimum,
    so that nothing but the search leaves intervals. closed: whether that ended with the minimum.
    names: of the ReLUs. costs: of each of their neurons, (batch, rows, *shape), and input_cost: of
    the inputs, what its choice in the LP gains over the network's at x (`bounds.analysis.attribute`
    has the identity). Together they are minimum[1] − lp_all[0].

    >>> number, yes = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    >>> ends = number, number
    >>> neurons = ("0",), (number,), number
    >>> found = Attribution(number - 1, ends, ends, ends, number, *neurons, yes, yes)
    >>> print(found)
    Attribution of 1 inputs, 1 rows each
     input  row  fixed slope            slope          l and u        triangles          minimum
         0    0      -1.0000          +1.0000          +0.0000          +0.0000          +0.0000
    """

    fixed_slope: Tensor
    lp: Interval
    lp_all: Interval
    minimum: Interval
    x: Tensor
    names: tuple[str, ...]
    costs: tuple[Tensor, ...]
    input_cost: Tensor
    solved: Tensor
    closed: Tensor

    @property
    def slope(self) -> Interval:
        """What the fixed slope loses: the LP optimum with the same l and u less the bound."""
        return _between(self.lp, (self.fixed_slope, self.fixed_slope))

    @property
    def intermediate(self) -> Interval:
        """What l and u lose: the optimum with LP-optimal ones less that with one-pass ones."""
        return _between(self.lp_all, self.lp)

    @property
    def relaxation(self) -> Interval:
        """What the triangles lose: the true minimum less the optimum with LP-optimal l and u."""
        return _between(self.minimum, self.lp_all)

    def worst(self, input: int, row: int, count: int = 10) -> list[tuple[str, int, float]]:
        """The neurons that cost most: the name of the ReLU, the position in it, flattened, and the
        cost; none that costs no more than rounding.

        Raises InvalidInputError for an input or a row that is none, or a count below 1.
        """
        input, row = self._at("Attribution.worst", input, row)
        count = require_whole("Attribution.worst", "count", count)
        largest = max((float(costs[input, row].max()) for costs in self.costs), default=0.0)
        found = [
            (name, position, cost)
            for name, costs in zip(self.names, self.costs, strict=True)
            for position, cost in enumerate(costs[input, row].flatten().tolist())
            if cost > ROUNDING * largest
        ]
        return sorted(found, key=lambda neuron: -neuron[2])[:count]

    def _at(self, call: str, input: object, row: object) -> tuple[int, int]:
        """An input and a row, as far as there are these."""
        batch, rows = self.fixed_slope.shape
        input = require_whole(call, "input", input, least=0, most=batch - 1)
        return input, require_whole(call, "row", row, least=0, most=rows - 1)

    def __repr__(self) -> str:
        """The first lines of the table."""
        return self.table(SHOWN)

    def table(self, most: int | None = None) -> str:
        """A line a row, or of the first so many: what is lost to what.

        Raises InvalidInputError for a number below 1.
        """
        if most is not None:
            most = require_whole("Attribution.table", "most", most)
        batch, rows = self.fixed_slope.shape
        steps = self.slope, self.intermediate, self.relaxation
        lines = [
            f"Attribution of {batch} inputs, {rows} rows each",
            " input  row  fixed slope" + "".join(f"{name:>17}" for name in (*STEPS, "minimum")),
        ]
        every = [(i, row) for i in range(batch) for row in range(rows)]
        for at in every[:most]:
            numbers = [_shown(both, at) for both in (*steps, self.minimum)]
            fixed = f"{float(self.fixed_slope[at]):+.4f}"
            lines.append(f"{at[0]:6}{at[1]:5}{fixed:>13}" + "".join(f"{n:>17}" for n in numbers))
        return "\n".join(lines + ["  …"] * (len(lines) - 2 < len(every)))

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers, as JSON has them: of each row, intervals as pairs; what is not finite
        is None."""
        steps = {name: getattr(self, name) for name in ("slope", "intermediate", "relaxation")}
        stages = {name: getattr(self, name) for name in ("lp", "lp_all", "minimum")}
        records = []
        for i, row in torch.ones_like(self.fixed_slope).nonzero().tolist():
            at = i, row
            records.append(
                {
                    "input": i,
                    "row": row,
                    "fixed_slope": _finite(self.fixed_slope[at]),
                    **_pairs(stages, at),
                    "solved": bool(self.solved[at]),
                    "lost": {
                        name: [_finite(end[at]) for end in both] for name, both in steps.items()
                    },
                    "x": self.x[at].tolist(),
                    "input_cost": _finite(self.input_cost[at]),
                    "costs": [
                        {"name": name, "costs": costs[at].tolist()}
                        for name, costs in zip(self.names, self.costs, strict=True)
                    ],
                }
            )
        return {"rows": records}

    def plot(self, path: str | os.PathLike[str], *, input: int = 0, row: int = 0) -> None:
        """Draw a row's bounds as a waterfall, from the fixed slope up to the true minimum, and
        beside it what costs most, into a file (png, svg, pdf; extra `plot`).

        Raises:
            BoundsError: matplotlib is not installed.
            InvalidInputError: a file of another ending, or an input or row that is none.
        """
        require_plot("Attribution.plot(path)", path)
        at = self._at("Attribution.plot", input, row)
        stages = [(self.fixed_slope, self.fixed_slope), self.lp, self.lp_all, self.minimum]
        draw(
            path,
            [(float(low[at]), float(high[at])) for low, high in stages],
            {"inputs": float(self.input_cost[at])}
            | {f"{name} [{position}]": cost for name, position, cost in self.worst(*at)},
            f"input {at[0]}, row {at[1]}",
        )


def _between(after: Interval, before: Interval) -> Interval:
    """What a step gains, which is nothing negative."""
    return (after[0] - before[1]).clamp(min=0), (after[1] - before[0]).clamp(min=0)


def _pairs(named: Mapping[str, Interval], at: tuple[int, int]) -> dict[str, list[float | None]]:
    return {name: [_finite(end[at]) for end in both] for name, both in named.items()}


def _shown(both: Sequence[Tensor], at: tuple[int, int]) -> str:
    """One number where the ends differ by less than what is shown of them."""
    low, high = (float(end[at]) for end in both)
    return f"{low:+.4f}" if high - low < 1e-4 else f"{low:+.4f}…{high:.4f}"


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
