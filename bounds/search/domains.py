"""Boxes of a search: parts of one input set, in each of which one disjunct may still be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bounds.network.affine import Convert
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import Box


@dataclass(frozen=True, eq=False)
class Domains:
    """Boxes, each of which is one node of a tree.

    lower, upper: their ends, (count, *input_shape). disjunct: the one that is to be excluded there,
    (count,). worst: the best lower bound of the box that it was cut from, (count,). node: its
    number in the tree, (count,). signs: what is known of every ReLU's input, one layer after
    another, as it holds where the box was cut from: 1 where it is never negative, −1 where it is
    never positive, else 0; (count, neurons), int8. share: what each is of all trees, as if the
    halves of a box were half of it, whatever is cut from them; (count,).
    """

    lower: Tensor
    upper: Tensor
    disjunct: Tensor
    worst: Tensor
    node: Tensor
    signs: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def box(self) -> Box:
        return Box(self.lower, self.upper)

    @property
    def bytes(self) -> int:
        tensors = (getattr(self, field.name) for field in fields(self))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def convert(self, convert: Convert) -> Domains:
        """The same with `convert` applied to every tensor, all of which start with the count."""
        return replace(self, **{f.name: convert(getattr(self, f.name)) for f in fields(self)})

    def take(self, chosen: Tensor | slice) -> Domains:
        """Those at these positions, or those that a mask has."""
        return self.convert(lambda tensor: tensor[chosen])


def distinct(domains: Domains) -> tuple[Tensor, Tensor]:
    """The first of the domains of each box and its signs, in their order, and which of these each
    domain has: roots of several disjuncts are one box, and often halved alike."""
    count, device = len(domains), domains.node.device
    every = torch.arange(count, device=device)
    if bool((domains.disjunct == domains.disjunct[:1]).all()):
        return every, every
    parts = domains.lower, domains.upper, domains.signs.to(domains.lower)
    _, of = torch.cat([each.flatten(1) for each in parts], 1).unique(dim=0, return_inverse=True)
    first = every.new_full((int(of.max()) + 1,), count).scatter_reduce(0, of, every, "amin")
    # By the numbers of the boxes so far: as many boxes as domains must be these, one by one.
    order = first.argsort()
    return first[order], order.argsort()[of]


def join(parts: Sequence[Domains]) -> Domains:
    """All of them, one after another."""
    return Domains(
        *(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Domains))
    )


def roots(box: Box, signs: Tensor, disjuncts: Sequence[int], worst: Sequence[float]) -> Domains:
    """One box as the root of a tree for each of these disjuncts; box and signs: of one input."""
    count = len(disjuncts)
    numbers = torch.arange(count, device=box.lower.device)
    return Domains(
        box.lower.expand(count, *box.lower.shape[1:]),
        box.upper.expand(count, *box.upper.shape[1:]),
        torch.tensor(disjuncts).to(numbers.device),
        torch.tensor(worst, dtype=box.lower.dtype).to(numbers.device),
        numbers,
        signs.expand(count, -1),
        torch.full((count,), 1.0 / count, dtype=torch.float64, device=numbers.device),
    )


def signs_of(layers: Sequence[ReluBounds], like: Tensor) -> Tensor:
    """What the bounds of all layers say of signs; (batch, neurons), of the dtype of `like`."""
    found = [(k.lower >= 0).to(like) - (k.upper <= 0).to(like) for k in layers]
    return torch.cat([like[:, :0], *(each.flatten(1) for each in found)], 1)


def bounds_of(signs: Tensor, shapes: Sequence[torch.Size], dtype: torch.dtype) -> list[ReluBounds]:
    """The bounds of layers of these shapes that signs stand for, infinite where nothing is
    known."""
    found = []
    for part, shape in zip(signs.split([s.numel() for s in shapes], 1), shapes, strict=True):
        sign = part.unflatten(1, shape)
        nothing = torch.full(sign.shape, torch.inf, dtype=dtype, device=sign.device)
        found.append(
            ReluBounds(torch.where(sign > 0, 0.0, -nothing), torch.where(sign < 0, 0.0, nothing))
        )
    return found
