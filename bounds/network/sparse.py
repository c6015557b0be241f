"""Dense layers most of whose weights are 0: products with the others alone.

Networks that are lattices of minima and maxima, pruned ones and permutations written as matrices
have a handful of weights in a row of thousands. The sum over these is the same number, and of less
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.affine import Affine, Convert, Linear, Shape, optional
from bounds.network.followed import followed

#: A layer of so many weights, at most this share of which is not 0, is summed over these. At this
#: share products take a tenth of the time for few samples, and half of it for thousands.
WEIGHTS, SHARE = 2**14, 1 / 32


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a matrix that are not 0, row after row: where each row begins, the columns,
    and the values; how many columns there are, and how many entries a row has at most."""

    starts: Tensor
    columns: Tensor
    values: Tensor
    width: int
    longest: int

    @classmethod
    def of(cls, matrix: Tensor) -> Entries:
        rows, columns = matrix.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(matrix))
        starts = F.pad(counts.cumsum(0), (1, 0))
        width, longest = matrix.shape[1], max(1, int(counts.max()))
        return cls(starts, columns, matrix[rows, columns], width, longest)

    def convert(self, convert: Convert) -> Entries:
        values = convert(self.values)
        starts, columns = (index.to(values.device) for index in (self.starts, self.columns))
        return replace(self, starts=starts, columns=columns, values=values)

    @property
    def dense(self) -> Tensor:
        """The whole matrix."""
        rows = torch.arange(len(self.starts) - 1, device=self.starts.device)
        rows = rows.repeat_interleave(self.starts.diff(), output_size=len(self.columns))
        whole = self.values.new_zeros(len(self.starts) - 1, self.width)
        return whole.index_put((rows, self.columns), self.values)

    def times(self, x: Tensor, transposed: Entries) -> Tensor:
        """The products with x, (…, columns), along its last axis; transposed: those of the
        transposed matrix, which derivatives are products with."""
        if x.numel() == 0 or followed(x) or self.values.requires_grad:
            return F.linear(x, self.dense)
        found: Tensor = _Product.apply(x, self, transposed)
        return found

    def sums(self, x: Tensor) -> Tensor:
        """The same, which torch has no second derivatives of."""
        flat = x.reshape(-1, self.width)
        found = F.embedding_bag(
            self.columns,
            flat.T.contiguous(),
            self.starts,
            mode="sum",
            per_sample_weights=self.values,
            include_last_offset=True,
        )
        return found.T.reshape(*x.shape[:-1], len(self.starts) - 1)


class _Product(torch.autograd.Function):
    """W x, whose derivatives are products, too."""

    @staticmethod
    def forward(x: Tensor, entries: Entries, transposed: Entries) -> Tensor:
        return entries.sums(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Entries, Entries], output: Tensor) -> None:
        ctx.pair = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        entries, transposed = ctx.pair
        return transposed.times(grad, entries), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        entries, transposed = ctx.pair
        found: Tensor = entries.times(tangent, transposed)
        return found


@dataclass(frozen=True, eq=False)
class SparseLinear(Affine):
    """y = W x + bias along the last axis, by the entries of W and those of Wᵀ."""

    rows: Entries
    columns: Entries
    bias: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The whole of W, (out, in)."""
        return self.rows.dense

    @property
    def dense(self) -> Linear:
        """The same by the whole of W."""
        return Linear(self.input_shape, self.output_shape, self.weight, self.bias)

    @property
    def fan_in(self) -> int:
        return self.rows.longest

    @property
    def fan_out(self) -> int:
        return self.columns.longest

    def linear(self, x: Tensor) -> Tensor:
        return self.rows.times(x, self.columns)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.columns.times(y, self.rows)

    def absolute(self) -> SparseLinear:
        return replace(self.convert(torch.abs), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return self.bias

    def convert(self, convert: Convert) -> SparseLinear:
        return replace(
            self,
            rows=self.rows.convert(convert),
            columns=self.columns.convert(convert),
            bias=optional(convert, self.bias),
        )


def linear(input_shape: Shape, output_shape: Shape, weight: Tensor, bias: Tensor | None) -> Affine:
    """A dense layer, by the entries of its weight where these are few, and constants on a CPU."""
    if (
        weight.numel() < WEIGHTS
        or weight.requires_grad
        or weight.device.type != "cpu"
        or followed(weight)
        or int(weight.count_nonzero()) > SHARE * weight.numel()
    ):
        return Linear(input_shape, output_shape, weight, bias)
    rows, columns = Entries.of(weight), Entries.of(weight.T)
    return SparseLinear(input_shape, output_shape, rows, columns, bias)
