"""The evidence behind a bound: multipliers for the lower side, a feasible point for the upper."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from torch import Tensor

from bounds.certificate_file import write_certificate
from bounds.dual import backward_pass
from bounds.errors import InvalidInputError
from bounds.primal import push_forward
from bounds.relaxation import Relaxation


@dataclass(frozen=True, eq=False)
class Claim:
    """lower ≤ LP optimum ≤ upper, both (batch, rows), for the LPs of a relaxation; method: by which
    the evidence was found."""

    relaxation: Relaxation
    lower: Tensor
    upper: Tensor
    method: str


@dataclass(frozen=True, eq=False)
class Certificate:
    """ν and (x, z) of every LP: one pass each through the relaxation gives lower and upper again.

    multipliers: ν at each ReLU, (batch, rows, *shape), 0 at stable neurons.
    x: (batch, rows, *input_shape). z: at each ReLU, (batch, rows, *shape); clamped to feasibility
    when evaluated. claim: what they are claimed to prove, where a solve has claimed something.
    """

    multipliers: tuple[Tensor, ...]
    x: Tensor
    z: tuple[Tensor, ...]
    claim: Claim | None = None

    def lower(self, relaxation: Relaxation) -> Tensor:
        """d(ν): a lower bound of the LP whatever the multipliers are; (batch, rows)."""
        dual_point = backward_pass(
            relaxation.network,
            relaxation.relu_bounds,
            len(relaxation.network.nodes) - 1,
            relaxation.C,
            lambda position, arriving, neurons: self.multipliers[position],
        )
        return dual_point.value(relaxation.input_set, relaxation.relu_bounds) + relaxation.d

    def upper(self, relaxation: Relaxation) -> Tensor:
        """The objective at the feasible point; (batch, rows)."""
        return push_forward(relaxation, self.x, lambda position, low, high: self.z[position]).value

    def save(self, path: str | PathLike[str]) -> None:
        """Write the evidence and its claim to a file that `bounds check` proves or refuses.

        `bounds.certificate_file` documents the format.
        """
        if self.claim is None:
            raise InvalidInputError(
                "Certificate.save() has no claim to write: save the certificate of a Solution that "
                "bounds.solve returned."
            )
        write_certificate(path, self, self.claim)
