"""What an LP's own objective leaves of it: neurons that it does not reach, or whose z it decides.

Let c be the coefficient of an objective on z_i, where no other neuron that is left depends on z_i.
If c = 0, the neuron goes. If c < 0, z_i is on its triangle's upper face, u (ẑ_i − l) / (u − l), in
every optimum, and so it goes too, for its affine expression: its multiplier is ν_i = c u / (u − l).
Both need l ≤ ẑ_i ≤ u to follow from the rest of the LP, as it does for the bounds of
`bounds.relax`. Layer by layer from above, this leaves about half of the last layer, and of the ones
below what the rest depends on: of a convolution's neurons, a row sees few.

Such LPs share no matrices with other rows of their input, but are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.solvers.interior_point.triangle_lp import TriangleLP

#: An LP by itself has to be this much smaller, in operations, than as a row of its input's, whose
#: matrices all rows share: its products are of small matrices, which are read from memory for each.
GAIN = 12


@dataclass(frozen=True, eq=False)
class Presolved:
    """The LPs with their decided neurons substituted; all of the shapes of the LPs before.

    lp: with the objectives that follow. kept: (B, S, n), which neurons are left. used: (B, S, d),
    which b they or nothing but the objective depend on. nu: (B, S, n), the multipliers of the
    neurons that went.
    """

    lp: TriangleLP
    kept: Tensor
    used: Tensor
    nu: Tensor

    @staticmethod
    def of(lp: TriangleLP) -> Presolved:
        d, first = lp.c_b.shape[2], lp.layers[0]
        reads = (lp.AL != 0).to(lp.e)
        slope = (lp.upper / (lp.upper - lp.lower)).unsqueeze(1)
        c_b, c_z, c_0 = lp.c_b, lp.c_z.clone(), lp.c_0
        kept = torch.zeros_like(c_z, dtype=torch.bool)
        kept[:, :, :first] = True  # a budget stays
        nu = torch.zeros_like(c_z)
        for start, stop in reversed(list(zip(lp.layers, lp.layers[1:], strict=False))):
            layer = slice(start, stop)
            read = kept[:, :, stop:].to(c_z) @ reads[:, stop:, d + start : d + stop] > 0
            goes = ~read & (c_z[:, :, layer] <= 0)
            on_face = torch.where(goes, c_z[:, :, layer] * slope[:, :, layer], 0.0)
            c_b = c_b + on_face @ lp.A[:, layer]
            c_z[:, :, :start] += on_face @ lp.L[:, layer, :start]
            c_0 = c_0 + (on_face @ (lp.e - lp.lower)[:, layer].unsqueeze(2)).squeeze(2)
            c_z[:, :, layer] = torch.where(goes, 0.0, c_z[:, :, layer])
            kept[:, :, layer], nu[:, :, layer] = ~goes, on_face
        used = kept.to(c_z) @ reads[:, :, :d] > 0
        return Presolved(replace(lp, c_b=c_b, c_z=c_z, c_0=c_0), kept, used, nu)

    @property
    def pays(self) -> bool:
        """Whether the LPs are better solved one by one than as rows of their inputs."""
        n, d = self.kept.shape[2], self.used.shape[2]
        neurons, inputs = self.kept.sum(2).double(), self.used.sum(2).double()
        alone = _operations(neurons, inputs).sum()
        together = neurons.numel() * _operations(torch.tensor(n), torch.tensor(d))
        return bool((GAIN if self.kept.shape[1] > 1 else 1) * alone < together)

    def alone(self, numbers: int) -> Iterator[Alone]:
        """The LPs by themselves: of alike sizes, with so many numbers in their matrices."""
        neurons, inputs = self.kept.sum(2).flatten(), self.used.sum(2).flatten()
        order = torch.argsort(neurons, stable=True)
        sizes = (neurons + 16) * (2 * neurons + inputs + 16)
        first = 0
        while first < len(order):
            # The later ones are larger: as many as fit of the size of the last that is alike.
            alike = order[first:][neurons[order[first:]] <= 1.25 * neurons[order[first]] + 8]
            largest = sizes[alike].cummax(0).values
            counts = torch.arange(1, len(alike) + 1, device=largest.device)
            count = max(1, int((largest * counts <= numbers).sum()))
            yield Alone.of(self, alike[:count])
            first += count


def _operations(n: Tensor, d: Tensor) -> Tensor:
    """Of one Newton step on n neurons and d inputs."""
    return n**2 * (d + n) + n**3 / 3


@dataclass(frozen=True, eq=False)
class Alone:
    """LPs of one row each, and where they stand among those before.

    at: (LPs,), flat indices of (B, S). neurons: (LPs, k) and inputs: (LPs, m), which are left of
    each; the smaller LPs fill up, where real_neurons or real_inputs is 0.
    """

    lp: TriangleLP
    at: Tensor
    neurons: Tensor
    inputs: Tensor
    real_neurons: Tensor
    real_inputs: Tensor

    @staticmethod
    def of(before: Presolved, at: Tensor) -> Alone:
        lp, rows = before.lp, before.kept.shape[1]
        images = at // rows
        layers = [lp.layers[0]]
        blocks = [_first(before.kept.flatten(0, 1)[at, : layers[0]])]  # the budget, or none
        for start, stop in zip(lp.layers, lp.layers[1:], strict=False):
            index, real = _first(before.kept.flatten(0, 1)[at, start:stop])
            blocks.append((index + start, real))
            layers.append(layers[-1] + index.shape[1])
        neurons, real_neurons = (torch.cat(parts, 1) for parts in zip(*blocks, strict=True))
        inputs, real_inputs = _first(before.used.flatten(0, 1)[at])
        columns = torch.cat((inputs, neurons + lp.c_b.shape[2]), 1)
        real = torch.cat((real_inputs, real_neurons), 1)
        AL = lp.AL[images.reshape(-1, 1, 1), neurons.unsqueeze(2), columns.unsqueeze(1)]
        AL = AL * (real_neurons.unsqueeze(2) & real.unsqueeze(1))

        def pick(values: Tensor, idle: float) -> Tensor:
            return torch.where(real_neurons, values[images.unsqueeze(1), neurons], idle)

        c_b, c_z, c_0 = (each.flatten(0, 1)[at] for each in (lp.c_b, lp.c_z, lp.c_0))
        unused = torch.where(before.used.flatten(0, 1)[at], 0.0, c_b).clamp(max=0).sum(1)
        own = TriangleLP(
            AL=AL,
            e=pick(lp.e, 0.0),
            lower=pick(lp.lower, -1.0),
            upper=pick(lp.upper, 1.0),
            c_b=(c_b.gather(1, inputs) * real_inputs).unsqueeze(1),
            c_z=(c_z.gather(1, neurons) * real_neurons).unsqueeze(1),
            c_0=(c_0 + unused).unsqueeze(1),
            scale=lp.scale.flatten()[at].unsqueeze(1),
            layers=tuple(layers),
        )
        return Alone(own, at, neurons, inputs, real_neurons, real_inputs)

    def gather(self, values: Tensor) -> Tensor:
        """From a number a neuron, (B, S, n), to (LPs, 1, k)."""
        own = values.flatten(0, 1)[self.at].gather(1, self.neurons)
        return (own * self.real_neurons).unsqueeze(1)

    def put_neurons(self, values: Tensor, into: Tensor) -> None:
        """Write (LPs, 1, k) into the places of the neurons that are left in (B, S, n)."""
        _put(values, into, self.at, self.neurons, self.real_neurons)

    def put_inputs(self, values: Tensor, into: Tensor) -> None:
        """Write (LPs, 1, m) into the places of the inputs that are left in (B, S, d)."""
        _put(values, into, self.at, self.inputs, self.real_inputs)


def _first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The indices where each row (LPs, ·) is set, filled up to the most of them, and which are."""
    counts = mask.sum(1)
    index = torch.argsort(mask, dim=1, descending=True, stable=True)[:, : int(counts.max())]
    return index, torch.arange(index.shape[1], device=mask.device) < counts.unsqueeze(1)


def _put(values: Tensor, into: Tensor, at: Tensor, index: Tensor, real: Tensor) -> None:
    lps, places = real.nonzero(as_tuple=True)
    image, row = at[lps] // into.shape[1], at[lps] % into.shape[1]
    into[image, row, index[lps, places]] = values.squeeze(1)[lps, places]
