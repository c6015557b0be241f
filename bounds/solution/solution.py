"""What a method returns: two-sided bounds, a status for every LP, and a certificate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.relaxation.relaxation import Part
from bounds.solution.certificate import Certificate
from bounds.solution.status import Status
from bounds.solution.verdict import proved, trusted

#: Inputs that a repr has a line for.
SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """Bounds lower ≤ LP optimum ≤ upper of each LP, in the units of the specification's rows.

    lower: (batch, rows), the dual function at the certificate's multipliers; also a lower bound of
        the network itself.
    upper: (batch, rows), the objective of a feasible point of the LP; infinite where none was
        found. It is no bound of the network.
    status: (batch, rows), integers that compare with `Status`.
    iterations: (batch, rows), of the method's main loop. method: its name.
    sound: whether the bounds hold over the reals, for the network with the weights as they are
        stored: what rounding may have added is bounded and taken off. If not, they hold up to it.
    partial: whether they hold for a part of the inputs only, that of a relaxation that is split.

    >>> import bounds
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[2.0, 0.0]], dtype=torch.float64), radius=0.5)
    >>> solution = bounds.solve(bounds.relax(network, ball, bounds.margins(0, classes=2)))
    >>> round(solution.lower.item(), 6), solution.verified.tolist(), solution.method
    (1.0, [True], 'simplex')
    """

    lower: Tensor
    upper: Tensor
    status: Tensor
    iterations: Tensor
    certificate: Certificate
    method: str
    sound: bool = False
    partial: bool = False

    def __repr__(self) -> str:
        """A line an input: its smallest row, and how many LPs ended in which way; after a head that
        says what upper is."""
        batch, rows = self.lower.shape
        kind = "sound" if self.sound else "up to rounding"
        lines = [
            f"Solution of {batch} inputs, {rows} rows each, by {self.method!r} ({kind}): "
            "lower ≤ LP optimum ≤ upper"
        ]
        least, largest = self.lower.detach().amin(1), self.gap.detach().amax(1)
        for index in range(min(batch, SHOWN)):
            ended = Counter(Status(status).name for status in self.status[index].tolist())
            how = ", ".join(f"{count} {name}" for name, count in ended.most_common())
            lines.append(
                f"  {index}: lower ≥ {least[index]:+.6g}, gap ≤ {largest[index]:.2g}; {how}"
            )
        return "\n".join(lines + ["  …"] * (batch > SHOWN))

    @property
    def gap(self) -> Tensor:
        """upper − lower: how far lower can be from the LP optimum."""
        return self.upper - self.lower

    @property
    def relative_gap(self) -> Tensor:
        """The gap in units of max(|lower|, |upper|), and 0 where both are equal."""
        return relative_gap(self.lower, self.upper)

    @property
    def verified(self) -> Tensor:
        """For each input, whether every row is proved positive; shape (batch,). See
        `bounds.solution.verdict`.

        Raises InvalidInputError for bounds that are not sound, or partial.
        """
        each_row = [[row] for row in range(self.lower.shape[1])]
        return torch.tensor([proved(lower, each_row) for lower in trusted(self).tolist()])


def relative_gap(lower: Tensor, upper: Tensor) -> Tensor:
    """(upper − lower) / max(|lower|, |upper|); infinite where a bound is missing or NaN.

    A negative gap, which only rounding can make, counts as 0.
    """
    gap = (upper - lower).clamp(min=0)
    relative = torch.where(gap == 0, 0.0, gap / torch.maximum(lower.abs(), upper.abs()))
    return torch.where(torch.isfinite(gap), relative, torch.inf)


def gap_closed(gap: Tensor, largest: Tensor, tolerance: float, rounding: Tensor) -> Tensor:
    """Whether lower is the optimum: up to the relative tolerance, or up to rounding (absolute).
    gap: upper − lower. largest: max(|lower|, |upper|)."""
    allowed = torch.maximum(tolerance * largest, rounding)
    # No NaN or infinity passes, and bounds that contradict each other beyond rounding do not.
    return (gap <= allowed.clamp(max=torch.finfo(gap.dtype).max)) & (gap >= -rounding)


def merge(found: Sequence[tuple[Part | None, Solution]]) -> Solution:
    """One solution from its parts, each given with the indices of its inputs and of its rows; or
    with none, the whole."""
    parts = [(part, solution) for part, solution in found if part is not None]
    if not parts:
        return found[0][1]
    batch = 1 + max(int(images.max()) for (images, _), _ in parts)
    rows = 1 + max(int(chosen.max()) for (_, chosen), _ in parts)

    def whole(field: Callable[[Solution], Tensor]) -> Tensor:
        first = field(parts[0][1])
        tensor = first.new_zeros(batch, rows, *first.shape[2:])
        for (images, chosen), part in parts:
            tensor[images.unsqueeze(1), chosen] = field(part)
        return tensor

    def multipliers(position: int) -> Tensor:
        return whole(lambda part: part.certificate.multipliers[position])

    def z(position: int) -> Tensor:
        return whole(lambda part: part.certificate.z[position])

    relus = range(len(parts[0][1].certificate.multipliers))
    certificate = Certificate(
        tuple(multipliers(position) for position in relus),
        whole(lambda part: part.certificate.x),
        tuple(z(position) for position in relus),
    )
    return Solution(
        whole(lambda part: part.lower),
        whole(lambda part: part.upper),
        whole(lambda part: part.status),
        whole(lambda part: part.iterations),
        certificate,
        parts[0][1].method,
        parts[0][1].sound,
        parts[0][1].partial,
    )
