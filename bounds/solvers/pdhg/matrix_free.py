"""The LP on the real layers: what the first-order method works on, without a matrix.

The variables are x and, for each unstable neuron i, its pre-activation ẑ_i and its z_i; what links
them are the definitions

    ẑ = A x + L z + e,    objective = c_x · x + c_z · z + c_0.

A x + L z + e is one pass through the network in which each unstable ReLU returns the z it is given,
and the prices c_x + Aᵀν and c_z + Lᵀν are one pass through the transposed network.

Inputs of a batch differ in which neurons are unstable. All of them carry the neurons that are
unstable for any of them; one that is stable for an input is idle there: bounds −1 and 1, its
definition ẑ = 0, and no price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds


@dataclass(frozen=True, eq=False)
class MatrixFreeLP:
    """The LPs of B inputs with S rows each, of d coordinates and n neurons.

    chosen: for each ReLU the flat indices of the neurons that are unstable for any input. unstable:
    whether they are, (B, 1, n). triangles: those of all of them, (B, n).
    """

    relaxation: Relaxation
    chosen: tuple[Tensor, ...]
    unstable: Tensor
    triangles: ReluBounds

    @staticmethod
    def of(relaxation: Relaxation) -> MatrixFreeLP:
        layers = relaxation.relu_bounds
        chosen = tuple(k.unstable.flatten(1).any(0).nonzero().squeeze(1) for k in layers)

        def pick(tensors: Sequence[Tensor]) -> Tensor:
            parts = [t.flatten(1)[:, at] for t, at in zip(tensors, chosen, strict=True)]
            nothing = relaxation.d.new_zeros(len(relaxation.d), 0)
            return torch.cat([nothing, *parts], 1)

        unstable = pick([k.unstable for k in layers]).bool()
        lower, upper = pick([k.lower for k in layers]), pick([k.upper for k in layers])
        none = [torch.zeros_like(k.lower) if k.split is None else k.split for k in layers]
        split = pick(none) if relaxation.is_split else None
        triangles = ReluBounds(
            torch.where(unstable, lower, -1.0), torch.where(unstable, upper, 1.0), split
        )
        return MatrixFreeLP(relaxation, chosen, unstable.unsqueeze(1), triangles)

    @property
    def lower(self) -> Tensor:
        """l, (B, 1, n)."""
        return self.triangles.lower.unsqueeze(1)

    @property
    def upper(self) -> Tensor:
        """u, (B, 1, n)."""
        return self.triangles.upper.unsqueeze(1)

    def take(self, images: Tensor, rows: Tensor) -> MatrixFreeLP:
        """The LPs of these inputs (B',) and, of each, these rows (B', S')."""
        return replace(
            self,
            relaxation=self.relaxation.take(images, rows),
            unstable=self.unstable[images],
            triangles=self.triangles.convert(lambda bound: bound[images]),
        )

    def to(self, dtype: torch.dtype) -> MatrixFreeLP:
        """The same LPs in another floating dtype."""
        return replace(
            self,
            relaxation=self.relaxation.convert(lambda tensor: tensor.to(dtype)),
            triangles=self.triangles.convert(lambda bound: bound.to(dtype)),
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """A x + L z + e, for x (B, S, d) and z (B, S, n)."""
        relaxation, (batch, rows) = self.relaxation, x.shape[:2]
        given, found = self._split(z * self.unstable), []

        def relu(position: int, flat: Tensor) -> Tensor:
            pre, at = flat.reshape(batch, rows, -1), self.chosen[position]
            neurons = relaxation.relu_bounds[position]
            found.append(pre[..., at])
            post = pre * neurons.active.flatten(1).unsqueeze(1)
            post[..., at] += given[position]
            return post.reshape(flat.shape)

        relaxation.network.evaluate(self.shaped(x).flatten(0, 1), relu)
        return torch.cat([z[..., :0], *found], -1) * self.unstable

    def backward(self, C: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The constant (B, S) and the prices of x (B, S, d) and z (B, S, n), of rows C."""
        relaxation, given = self.relaxation, self._split(nu * self.unstable)
        found = [nu.new_zeros(*nu.shape[:2], len(at)) for at in self.chosen]

        def through(position: int, arriving: Tensor) -> Tensor:
            flat, at = arriving.flatten(2), self.chosen[position]
            found[position] = flat[..., at]
            before = flat * relaxation.relu_bounds[position].active.flatten(1).unsqueeze(1)
            before[..., at] += given[position]
            return before.reshape(arriving.shape)

        last = len(relaxation.network.nodes) - 1
        constant, on_x = relaxation.network.backward(last, C, through)
        on_z = torch.cat([nu[..., :0], *found], -1) * self.unstable
        return constant, on_x.flatten(2), on_z

    def dual_value(
        self, prices: tuple[Tensor, Tensor, Tensor], nu: Tensor
    ) -> tuple[Tensor, Tensor]:
        """d(ν) from what `backward` gives for ν, and the sum of the magnitudes of its terms; both
        (B, S)."""
        constant, on_x, on_z = prices
        of_z = (self.triangles.minimum(nu, on_z) * self.unstable).sum(-1)
        of_x = self.relaxation.input_set.minimum(self.shaped(on_x))
        terms = constant, self.relaxation.d, of_x, of_z
        return torch.stack(terms).sum(0), torch.stack(terms).abs().sum(0)

    def parts(self, w: Tensor) -> tuple[Tensor, ...]:
        """x, ẑ, z and ν of (B, S, d + 3 n)."""
        n = self.unstable.shape[2]
        return torch.split(w, [w.shape[2] - 3 * n, n, n, n], dim=-1)

    def middle(self, nu: Tensor) -> Tensor:
        """The middle of the input set and of each triangle, with multipliers ν: (B, S, d + 3 n)."""
        box = self.relaxation.input_set
        x = box.project(((box.lower + box.upper) / 2).unsqueeze(1)).flatten(2)
        parts = x, (self.lower + self.upper) / 2, self.upper / 2
        return torch.cat([*(part.expand(-1, nu.shape[1], -1) for part in parts), nu], -1)

    def shaped(self, x: Tensor) -> Tensor:
        """(B, S, d) as (B, S, *input_shape)."""
        return x.unflatten(2, self.relaxation.network.input_shape)

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """The neurons' entries of one (B, S, *shape) tensor a ReLU, as (B, S, n)."""
        parts = [v.flatten(2)[..., at] for v, at in zip(values, self.chosen, strict=True)]
        nothing = self.relaxation.C.new_zeros(*self.relaxation.C.shape[:2], 0)
        return torch.cat([nothing, *parts], -1) * self.unstable

    def scatter(self, values: Tensor) -> tuple[Tensor, ...]:
        """(B, S, n) values as one (B, S, *shape) tensor a ReLU, with 0 at stable neurons."""
        found = []
        for neurons, at, part in zip(
            self.relaxation.relu_bounds,
            self.chosen,
            self._split(values * self.unstable),
            strict=True,
        ):
            whole = part.new_zeros(*part.shape[:2], neurons.lower[0].numel())
            whole[..., at] = part
            found.append(whole.unflatten(2, neurons.lower.shape[1:]))
        return tuple(found)

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return torch.split(values, [len(at) for at in self.chosen], dim=-1)
