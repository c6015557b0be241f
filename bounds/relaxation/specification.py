"""What is bounded: rows ⟨c, net(x)⟩ + d, of each of which the minimum over the input set is asked
for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from bounds.arguments import integers, require_classes, require_floats, require_whole
from bounds.errors import InvalidInputError
from bounds.network.affine import Shape
from bounds.sets.numbers import below


@dataclass(frozen=True, eq=False)
class Specification:
    """Rows C · net(x) + d, to be minimised one by one.

    Args:
        C: shape (rows, outputs), or (batch, rows, outputs) for rows of each input's own; outputs
            counts the network's flattened outputs. Floating point, in any dtype whose numbers that
            of the relaxation holds: nothing is rounded.
        d: shape (rows,) or (batch, rows); default 0. Rounded down to the dtype of the relaxation:
            `lower` holds for the row as it is given, `upper` for the rounded one.

    Raises:
        InvalidInputError: what is no finite floating-point tensor, or of another shape.

    >>> import torch
    >>> Specification(torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])).C.shape
    torch.Size([1, 2])
    """

    C: Tensor
    d: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in (("C", self.C), ("d", self.d)):
            if tensor is None and name == "d":
                continue
            require_floats("Specification", name, tensor)
        if self.C.dim() not in (2, 3) or 0 in self.C.shape:
            raise InvalidInputError(
                f"Specification(C) has shape {tuple(self.C.shape)}, expected (rows, outputs) or "
                "(batch, rows, outputs), none of them 0."
            )
        if self.d is not None and (
            self.d.dim() not in (1, 2) or self.d.shape[-1] != self.C.shape[-2]
        ):
            raise InvalidInputError(
                f"Specification(d) has shape {tuple(self.d.shape)}, expected ({self.C.shape[-2]},) "
                f"or (batch, {self.C.shape[-2]}): one number a row of C."
            )

    def take(self, images: Tensor) -> Specification:
        """The rows of these inputs, by their positions; those that are all inputs' stay so."""
        own = self.C.dim() == 3 and len(self.C) > 1
        d = self.d
        if d is not None and d.dim() == 2 and len(d) > 1:
            d = d[images.to(d.device)]
        return Specification(self.C[images.to(self.C.device)] if own else self.C, d)

    def fails(self, y: Tensor) -> bool:
        """Whether one of the rows is negative for an output, exactly; not where it is not finite.
        For rows of one input."""
        values = y.flatten().tolist()
        if not all(map(math.isfinite, values)):
            return False
        exact = [Fraction(value) for value in values]
        C = self.C.reshape(-1, self.C.shape[-1]).tolist()
        d = [0.0] * len(C) if self.d is None else self.d.flatten().tolist()
        return any(
            sum((Fraction(c) * exact[i] for i, c in enumerate(row) if c), Fraction(end)) < 0
            for row, end in zip(C, d, strict=True)
        )

    def resolve(self, batch: int, output_shape: Shape, like: Tensor) -> tuple[Tensor, Tensor]:
        """C (batch, rows, *output_shape) and d (batch, rows), of the dtype and device of `like`."""
        outputs = torch.Size(output_shape).numel()
        if self.C.shape[-1] != outputs:
            raise InvalidInputError(
                f"Specification(C) has {self.C.shape[-1]} columns but the network has {outputs} "
                "outputs."
            )
        if self.C.dim() == 3 and self.C.shape[0] not in (1, batch):
            raise InvalidInputError(
                f"Specification(C) has rows for {self.C.shape[0]} inputs but the ball has {batch}."
            )
        if self.d is not None and self.d.dim() == 2 and self.d.shape[0] not in (1, batch):
            raise InvalidInputError(
                f"Specification(d) has offsets for {self.d.shape[0]} inputs but the ball has "
                f"{batch}."
            )
        rows = self.C.shape[-2]
        C = self.C.to(like)
        if not torch.equal(C.to(self.C), self.C):
            raise InvalidInputError(
                f"Specification(C) has numbers in {self.C.dtype} that {like.dtype} does not hold, "
                "and rounded rows are others: compute in float64, or give C.to(torch.float32)."
            )
        C = C.expand(batch, rows, outputs).reshape(batch, rows, *output_shape)
        d = like.new_zeros(()) if self.d is None else below(self.d, like.dtype, like.device)
        return C, d.expand(batch, rows)


def answers(label: Tensor | int, classes: int) -> Specification:
    """The rows that are all positive where the answer is `label`: `margins`; or of a single logit,
    which answers 1 where it is positive and 0 where it is negative, that logit or its negative.

    >>> answers(0, classes=1).C.tolist()
    [[-1.0]]
    """
    if classes != 1:
        return margins(label, classes)
    labels = integers("answers", "label", label)
    require_classes("answers", "label", labels, 2)
    return Specification((2.0 * labels.double() - 1.0).reshape(*labels.shape, 1, 1))


def margins(label: Tensor | int, classes: int) -> Specification:
    """The rows z_label − z_j for every other class j, in rising j: all positive means the answer
    cannot change.

    Args:
        label: the class, or one class an input as an integer tensor of shape (batch,).
        classes: the number of outputs, at least 2.

    Returns:
        A Specification with classes − 1 rows, in float64.

    Raises:
        InvalidInputError: what is no class, or a shape of more than one axis.

    >>> margins(1, classes=3).C.tolist()
    [[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]
    """
    labels = integers("margins", "label", label)
    if labels.dim() > 1:
        raise InvalidInputError(
            f"margins(label) has shape {tuple(labels.shape)}, expected a number or (batch,)."
        )
    classes = require_whole("margins", "classes", classes, least=2, most=2**31 - 1)
    require_classes("margins", "label", labels, classes)
    identity = torch.eye(classes, dtype=torch.float64, device=labels.device)
    differences = identity[labels].unsqueeze(-2) - identity  # e_y − e_j, for every j
    others = torch.arange(classes, device=labels.device) != labels.unsqueeze(-1)
    return Specification(differences[others].reshape(*labels.shape, classes - 1, classes))
