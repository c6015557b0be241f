"""How the radius of provably robust training grows: small balls first, or nothing is learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bounds.arguments import real, shown
from bounds.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class RadiusSchedule:
    """The radius at a time of the training: `start` until `begin`, then a straight line, and `end`
    from `begin + length` on.

    Over the ball of the full radius, the bounds of an untrained network are so loose that training
    on them finds the network that ignores its input. Wong et al. 2018 (arXiv 1805.12514, section 4)
    grow the radius from 0.01 to 0.1 on MNIST. The schedule keeps no state: a training run that is
    resumed asks it for the radius of the time that it has come to.

    Args:
        start, end: radii, at least 0, in the units of the inputs.
        begin, length: times, in whatever unit it is called with, such as epochs; length is at
            least 0, and where it is 0 the radius jumps.

    Raises:
        InvalidInputError: what is no finite number, or is negative and should not be.

    >>> schedule = RadiusSchedule(start=0.0, end=0.1, length=10)
    >>> schedule(5), schedule(20)
    (0.05, 0.1)
    """

    start: float
    end: float
    begin: float = 0.0
    length: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _require_number(f"RadiusSchedule({field.name}={shown(value)})", value)
            if field.name != "begin" and value < 0:
                raise InvalidInputError(
                    f"RadiusSchedule({field.name}={shown(value)}): expected a number of at least 0."
                )

    def __call__(self, time: float) -> float:
        """The radius at this time, a number such as 2.5 epochs; it lies between start and end.

        Raises InvalidInputError for a time that is no finite number.
        """
        _require_number(f"RadiusSchedule was called with {shown(time)}", time)
        if time >= self.begin + self.length:
            return float(self.end)
        if time <= self.begin:
            return float(self.start)
        share = (time - self.begin) / self.length
        # A sum of parts of both, so that rounding leaves neither behind.
        radius = (1 - share) * self.start + share * self.end
        low, high = sorted((self.start, self.end))
        return float(min(max(radius, low), high))


def _require_number(what: str, value: object) -> None:
    if not math.isfinite(real(value)):
        raise InvalidInputError(f"{what}: expected a finite number, such as 0.1.")
