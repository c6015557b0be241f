"""The evidence behind a bound: multipliers for the lower side, a feasible point for the upper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike

import torch
from torch import Tensor

from bounds.arguments import integers
from bounds.dual.dual import DualPoint, backward_pass
from bounds.dual.primal import PrimalPoint, push_forward
from bounds.errors import InvalidInputError
from bounds.network.affine import Convert
from bounds.relaxation.ranges import Range
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.solution.certificate_file import network_digest, write_certificate


@dataclass(frozen=True, eq=False)
class Claim:
    """lower ≤ LP optimum ≤ upper, both (batch, rows), for the LPs of a relaxation; method: by which
    the evidence was found."""

    relaxation: Relaxation
    lower: Tensor
    upper: Tensor
    method: str


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """ν and (x, z) of every LP: one pass each through the relaxation gives lower and upper again.

    multipliers: ν at each ReLU, (batch, rows, *shape), 0 at stable neurons.
    x: (batch, rows, *input_shape). z: at each ReLU, (batch, rows, *shape); clamped to feasibility
    when evaluated. claim: what they are claimed to prove, where a solve has claimed something.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[2.0, 0.0]], dtype=torch.float64), radius=0.5)
    >>> relaxation = bounds.relax(net, ball, bounds.margins(0, classes=2))
    >>> solution = bounds.solve(relaxation)
    >>> torch.equal(solution.certificate.lower(relaxation), solution.lower)
    True
    """

    multipliers: tuple[Tensor, ...]
    x: Tensor
    z: tuple[Tensor, ...]
    claim: Claim | None = None

    def __repr__(self) -> str:
        batch, rows = self.x.shape[:2]
        neurons = sum(nu[0, 0].numel() for nu in self.multipliers)
        claimed = "nothing claimed" if self.claim is None else f"claimed by {self.claim.method!r}"
        return f"Certificate of {batch} inputs, {rows} rows each, {neurons} neurons ({claimed})"

    def lower(self, relaxation: Relaxation, *, sound: bool = True) -> Tensor:
        """d(ν): a lower bound of the LP whatever the multipliers are; (batch, rows).

        sound: rounded down so far that it holds over the reals; if not, up to rounding.
        """
        relaxation = self._alike(relaxation)
        if not sound:
            point = self._dual_point(relaxation)
            return point.value(relaxation.input_set, relaxation.relu_bounds) + relaxation.d
        with plain_arithmetic():
            return self._lower(relaxation, relaxation.ranges())

    def both(self, relaxation: Relaxation) -> tuple[Tensor, PrimalPoint]:
        """`lower` and `point`, sound, of which both need the ranges of all nodes."""
        relaxation = self._alike(relaxation)
        with plain_arithmetic():
            ranges = relaxation.ranges()
            return self._lower(relaxation, ranges), self._point(relaxation, ranges)

    def _lower(self, relaxation: Relaxation, ranges: Sequence[Range]) -> Tensor:
        point = self._dual_point(relaxation, ranges)
        return point.value_below(relaxation.input_set, relaxation.relu_bounds, relaxation.d)

    def _dual_point(
        self, relaxation: Relaxation, ranges: Sequence[Range] | None = None
    ) -> DualPoint:
        network = relaxation.network
        rows = relaxation.relu_bounds, len(network.nodes) - 1, relaxation.C
        return backward_pass(network, *rows, lambda k, *_: self.multipliers[k], ranges)

    def upper(self, relaxation: Relaxation, *, sound: bool = True) -> Tensor:
        """The objective at the feasible point; (batch, rows).

        sound: rounded up so far that it is that of a point which is feasible over the reals.
        """
        return self.point(relaxation, sound=sound).value

    def point(self, relaxation: Relaxation, *, sound: bool = True) -> PrimalPoint:
        """The feasible point that x and z describe."""
        relaxation = self._alike(relaxation)
        if not sound:
            return self._point(relaxation)
        with plain_arithmetic():
            return self._point(relaxation, relaxation.ranges())

    def _point(self, relaxation: Relaxation, ranges: Sequence[Range] | None = None) -> PrimalPoint:
        return push_forward(relaxation, self.x, lambda k, *_: self.z[k], ranges)

    def _alike(self, relaxation: Relaxation) -> Relaxation:
        """The relaxation in the dtype of the evidence, if that is float64."""
        single = relaxation.C.dtype != self.x.dtype == torch.float64
        return relaxation.double() if single else relaxation

    def take(self, images: Tensor | Sequence[int] | int) -> Certificate:
        """The evidence about some inputs, by their indices, with what is claimed of them.

        Raises InvalidInputError for what are no indices of inputs.
        """
        images = integers("Certificate.take", "images", images).flatten().to(self.x.device)
        if not bool(((images >= 0) & (images < len(self.x))).all()):
            raise InvalidInputError(
                f"Certificate.take(images) has {images.tolist()[:10]}, expected indices of the "
                f"{len(self.x)} inputs: 0 … {len(self.x) - 1}."
            )
        part, claim = self.convert(lambda tensor: tensor[images]), self.claim
        if claim is None:
            return part
        rows = torch.arange(claim.lower.shape[1])
        own = claim.relaxation.take(images, rows)
        lower, upper = claim.lower[images], claim.upper[images]
        return replace(part, claim=Claim(own, lower, upper, claim.method))

    def convert(self, convert: Convert) -> Certificate:
        """The same evidence with `convert` applied to every tensor."""
        multipliers, z = (tuple(map(convert, each)) for each in (self.multipliers, self.z))
        return Certificate(multipliers, convert(self.x), z)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the evidence and its claim to a file that `bounds check` proves or refuses.

        `bounds.solution.certificate_file` documents the format. A regular file is replaced once all
        is written.

        Raises:
            InvalidInputError: no claim to write, or a path that cannot be written.
        """
        if self.claim is None:
            raise InvalidInputError(
                "Certificate.save() has no claim to write: save the certificate of a Solution of "
                "bounds.solve with sound=True."
            )
        relaxation, claim = self.claim.relaxation, self.claim
        input_set = relaxation.input_set
        tensors = {"C": relaxation.C, "d": relaxation.d, "x": self.x}
        tensors |= {
            f"input.{field.name}": getattr(input_set, field.name) for field in fields(input_set)
        }
        tensors |= {"lower": claim.lower, "upper": claim.upper}
        for k, neurons in enumerate(relaxation.relu_bounds):
            unstable = neurons.unstable.flatten(1)
            whole = neurons.whole
            tensors[f"relu.{k}.lower"], tensors[f"relu.{k}.upper"] = whole.lower, whole.upper
            if relaxation.is_split:
                tensors[f"relu.{k}.side"] = neurons.side
            for name, values in (("multipliers", self.multipliers), ("z", self.z)):
                tensors[f"{name}.{k}"] = values[k].flatten(2).transpose(1, 2)[unstable]
        statement = {
            "network": network_digest(relaxation.network),
            "input_set": type(input_set).__name__.removesuffix("Ball").lower(),
            "intermediate": relaxation.intermediate,
            "slope": relaxation.slope,
            "method": claim.method,
        }
        write_certificate(path, tensors, statement)
