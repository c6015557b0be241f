"""What is bounded: rows ⟨c, net(x)⟩ + d, of each of which the minimum over the input set is asked
for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.network.affine import Shape


@dataclass(frozen=True, eq=False)
class Specification:
    """Rows C · net(x) + d, to be minimised one by one.

    Args:
        C: shape (rows, outputs), or (batch, rows, outputs) for rows of each input's own; outputs
            counts the network's flattened outputs.
        d: shape (rows,) or (batch, rows); default 0.
    """

    C: Tensor
    d: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in (("C", self.C), ("d", self.d)):
            if tensor is None:
                continue
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise InvalidInputError(
                    f"Specification({name}) got {kind}, expected a floating-point tensor."
                )
            if not bool(torch.isfinite(tensor).all()):
                raise InvalidInputError(f"Specification({name}) has NaN or infinite entries.")
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
        C = self.C.to(like).expand(batch, rows, outputs).reshape(batch, rows, *output_shape)
        d = like.new_zeros(()) if self.d is None else self.d.to(like)
        return C, d.expand(batch, rows)


def margins(label: Tensor | int, classes: int) -> Specification:
    """The rows z_label − z_j for every other class j, in rising j: all positive means the answer
    cannot change.

    Args:
        label: the class, or one class an input as an integer tensor of shape (batch,).
        classes: the number of outputs.

    Returns:
        A Specification with classes − 1 rows.
    """
    labels = torch.as_tensor(label)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidInputError(f"margins(label) has dtype {labels.dtype}, expected integers.")
    if labels.dim() > 1 or labels.numel() == 0:
        raise InvalidInputError(
            f"margins(label) has shape {tuple(labels.shape)}, expected a number or (batch,)."
        )
    if classes < 2:
        raise InvalidInputError(f"margins(classes={classes}): a margin needs at least 2 classes.")
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        raise InvalidInputError(
            f"margins(label) has {int(labels[outside].flatten()[0])}, expected 0 … {classes - 1} "
            f"for {classes} classes."
        )
    identity = torch.eye(classes, dtype=torch.float64, device=labels.device)
    differences = identity.unsqueeze(1) - identity  # [y, j] = e_y − e_j
    others = ~torch.eye(classes, dtype=torch.bool, device=labels.device)
    rows = differences[others].reshape(classes, classes - 1, classes)
    return Specification(rows[labels.long()])  # uint8 would be a mask
