"""Lower bounds of rows on many boxes at once, in float64, with all that rounding can do taken off.

A row ⟨a, y⟩ of coefficients on a node goes backwards. Through an affine node, where y = W x + b,

    ⟨a, y⟩ = ⟨a, b⟩ + ⟨Wᵀa, x⟩,

and if â is what was computed of Wᵀa, a sum of k products a number, then |â − Wᵀa| ≤ γ_k |W|ᵀ|a|
and ⟨â, x⟩ is off by at most γ_k ⟨|a|, |W| |x|⟩: the pass may go on with â as if it were exact. So
one unit of coefficient on the node has a *price*, γ_k |W| |x| and what it costs to sum up b, where
|x| is at most the largest on the box, and what a row pays is its ⟨|a|, price⟩. At a ReLU,
`bounds.checker.dual` has the bound by a form in ẑ for every number ν, and so for every ν that was
computed. For ν = a s with 0 ≤ s ≤ 1 and a < 0, and δ the rounding of the product, it loses

    max(s (1 + δ) |l|, (1 − s (1 + δ)) u) |a|  ≤  cut · |a|

and nothing with a ≥ 0 and the slope s of the upper face, 0 or 1: a product with s ≤ 1 rounds to no
more than a. So a row has a linear form below it: constant + ⟨c, x⟩ − what it paid, for all x of the
box alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bounds.checker.floats import FLOOR, UNIT, down, gamma
from bounds.checker.forward import Carried
from bounds.checker.operations import Dense
from bounds.checker.passes import Faces, Passes
from bounds.checker.refutations import Stated
from bounds.network.graph import AffineNode, ReluNode, SumNode

#: What products that underflow cost, for each unit of the sizes of all values.
UNDERFLOW = 2.0**-950

#: What a ReLU makes of coefficients (boxes, rows, numbers) on its output: those on its input, the
#: least that is left over, and the size of the terms that this is the sum of; (boxes, rows) each.
Passed = tuple[np.ndarray, np.ndarray, np.ndarray]
Rule = Callable[[int, np.ndarray], Passed]


@dataclass(frozen=True, eq=False)
class Forms:
    """constant + ⟨c, x⟩ − paid ≤ each row, on its box; (boxes, rows), and c (boxes, rows,
    inputs). least: no more than its minimum on the box, −inf where nothing is known."""

    c: np.ndarray
    least: np.ndarray


class Batch:
    """Boxes [lower, upper], (boxes, inputs), and what follows for the nodes on each.

    signs: of ReLU inputs, (boxes, neurons): 1 where it is known to be never negative, −1 where
    never positive. slope: of backward passes from neurons, None for intervals alone. alone: which
    boxes have none all the same. known: what else has l and u of the same boxes, which hold too;
    stated: what more a file says of one box.
    usable: whether all l and u are numbers; (boxes,).
    """

    def __init__(
        self,
        passes: Passes,
        lower: np.ndarray,
        upper: np.ndarray,
        signs: np.ndarray,
        *,
        slope: str | None = "adaptive",
        alone: np.ndarray | None = None,
        known: Sequence[Batch | Carried] = (),
        stated: Stated | None = None,
    ) -> None:
        self.passes, self.lower, self.upper = passes, lower, upper
        self.usable = np.ones(len(lower), dtype=bool)
        self.faces: list[Faces] = []
        self._slope, self._known, self._stated = slope, known, stated
        self._alone = np.zeros(len(lower), dtype=bool) if alone is None else alone
        self._sizes: list[np.ndarray] = []
        self._prices: dict[int, np.ndarray] = {}
        self._underflow = np.zeros(len(lower))
        self._sums = len(passes.nodes) + 4
        self._enclose(signs)

    @property
    def signs(self) -> np.ndarray:
        """As given, and what l and u add to them."""
        parts = [
            (face.lower >= 0).astype(np.int8) - (face.upper <= 0).astype(np.int8)
            for face in self.faces
        ]
        return np.concatenate([np.zeros((len(self.lower), 0), dtype=np.int8), *parts], 1)

    def _enclose(self, signs: np.ndarray) -> None:
        """Intervals around the values of every node, and l and u of every ReLU's input."""
        passes, offset = self.passes, 0
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for index, node in enumerate(passes.nodes):
            if isinstance(node, AffineNode):
                ends = self._affine(index, *found[node.parents[0]])
            elif isinstance(node, SumNode):
                lows, highs = zip(*(found[parent] for parent in node.parents), strict=True)
                size = np.sum([self._sizes[parent] for parent in node.parents], 0)
                off = gamma(len(lows)) * size
                ends = np.sum(lows, 0) - off, np.sum(highs, 0) + off
            elif isinstance(node, ReluNode):
                [parent] = node.parents
                own = signs[:, offset : offset + passes.graph.sizes[index]]
                offset += own.shape[1]
                lower = np.where(own > 0, np.maximum(found[parent][0], 0), found[parent][0])
                upper = np.where(own < 0, np.minimum(found[parent][1], 0), found[parent][1])
                for other in self._known:
                    face = other.faces[len(self.faces)]
                    lower, upper = np.maximum(lower, face.lower), np.minimum(upper, face.upper)
                if parent not in passes.exact and self._slope is not None:
                    self._improve(parent, lower, upper)
                if self._stated is not None:
                    self._improve_as_stated(parent, self._stated, lower, upper)
                numbers = np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)
                self.usable &= numbers.all(1)
                self.faces.append(Faces.of(lower, upper))
                ends = np.maximum(lower, 0), np.maximum(upper, 0)
            else:
                ends = self.lower, self.upper
            found.append(ends)
            self._sizes.append(np.maximum(np.abs(ends[0]), np.abs(ends[1])))
            self._underflow += UNDERFLOW * (1 + self._sizes[-1].sum(1))

    def _affine(
        self, index: int, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        passes = self.passes
        matrix, bias = passes.matrix[index], passes.bias[index]
        forward, backward = matrix.terms
        if forward == 0 and bias is None:
            if backward > 1:
                products = matrix.forward(self._sizes[passes.nodes[index].parents[0]])
                self._prices[index] = gamma(backward) * products + FLOOR
            return matrix.forward(lower), matrix.forward(upper)
        absolute = passes.absolute[index]
        shift = 0.0 if bias is None else np.abs(bias)
        products = absolute.forward(self._sizes[passes.nodes[index].parents[0]])
        off = gamma(forward) * (products + shift) + FLOOR
        middle = lower / 2 + upper / 2
        reach = np.maximum(upper - middle, middle - lower)
        value = matrix.forward(middle) + (0.0 if bias is None else bias)
        reach = absolute.forward(reach) + off
        price = gamma(products.shape[1] + self._sums) * shift + FLOOR
        self._prices[index] = np.asarray(gamma(backward) * products * (backward > 0) + price)
        return value - reach, value + reach

    def _improve(self, node: int, lower: np.ndarray, upper: np.ndarray) -> None:
        """Backward passes from the neurons that are unstable by these bounds, which get better."""
        unstable = (lower < 0) & (upper > 0) & ~self._alone[:, None]
        counts = unstable.sum(1)
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] > 0]
        # Boxes with about as many neurons share a pass: each has as many rows as the largest, and
        # fills up with its first one.
        ranked = np.argsort(~unstable, axis=1, kind="stable")
        first = 0
        while first < len(order):
            rows = counts[order[first]]
            boxes = order[first : first + max(1, self.passes.rows // (2 * rows))]
            first += len(boxes)
            neurons = ranked[boxes, :rows]
            own = np.arange(rows) < counts[boxes, None]
            neurons = np.where(own, neurons, neurons[:, :1])
            least = self._neurons(node, boxes, neurons)
            at = boxes[:, None].repeat(rows, 1)[own], neurons[own]
            lower[at] = np.maximum(lower[at], least[:, :rows][own])
            upper[at] = np.minimum(upper[at], -least[:, rows:][own])

    def _improve_as_stated(
        self, node: int, stated: Stated, lower: np.ndarray, upper: np.ndarray
    ) -> None:
        """Of the one box."""
        k = len(self.faces)
        ends = np.cumsum(self.passes.sizes)[:-1]
        given = np.split(stated.listed, ends)
        for first in range(0, len(stated.neuron[k]), self.passes.rows):
            part = slice(first, first + self.passes.rows)
            neuron, is_upper = stated.neuron[k][part], stated.upper[k][part]
            count = len(neuron)
            rows = np.zeros((count, 1, self.passes.graph.sizes[node]))
            rows[np.arange(count), 0, neuron] = np.where(is_upper, -1.0, 1.0)
            rule = self.multipliers(
                [(face.lower, face.upper) for face in self.faces],
                np.split(stated.multipliers[k][part], ends, 1),
                [each[None] for each in given],
            )
            nothing = np.zeros((count, 1))
            boxes = np.zeros(count, dtype=np.int64)
            least = self._descend(node, rows, boxes, rule, nothing, nothing).least[:, 0]
            np.maximum.at(lower[0], neuron[~is_upper], least[~is_upper])
            np.minimum.at(upper[0], neuron[is_upper], -least[is_upper])

    def _neurons(self, node: int, boxes: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        """Lower bounds of those numbers of a node, and then of what is −1 times them."""
        start = self.passes.moved_from(node)
        matrix = self.passes.matrix.get(start)
        constant = paid = np.zeros((len(boxes), 2 * neurons.shape[1]))
        if isinstance(matrix, Dense) and matrix.outputs == self.passes.graph.sizes[start]:
            rows = matrix.weight.lines(neurons)
            rows = np.concatenate((rows, -rows), 1)
            bias = self.passes.bias[start]
            if bias is not None:
                own = bias[neurons]
                constant = np.concatenate((own, -own), 1)
                price = np.take_along_axis(self._prices[start][boxes], neurons, 1)
                paid = np.concatenate((price, price), 1)
            start = self.passes.nodes[start].parents[0]
        else:
            half = neurons.shape[1]
            rows = np.zeros((len(boxes), 2 * half, self.passes.graph.sizes[start]))
            np.put_along_axis(rows[:, :half], neurons[..., None], 1.0, 2)
            np.put_along_axis(rows[:, half:], neurons[..., None], -1.0, 2)
        rule = self._slopes(boxes, np.full(len(boxes), self._slope == "adaptive"))
        return self._descend(start, rows, boxes, rule, constant, paid).least

    def rows(self, C: np.ndarray, d: np.ndarray, boxes: np.ndarray, adaptive: np.ndarray) -> Forms:
        """Forms below ⟨C, output⟩ + d, for C (boxes, rows, outputs) and d (boxes, rows) on these
        boxes. adaptive: whether that is the slope, of each box."""
        return self._from_output(C, d, 0.0, boxes, self._slopes(boxes, adaptive))

    def mixtures(
        self, C: np.ndarray, d: np.ndarray, weights: np.ndarray, boxes: np.ndarray, rule: Rule
    ) -> np.ndarray:
        """Lower bounds of Σ λ (⟨C, output⟩ + d) on these boxes, (boxes,), for λ ≥ 0 and d (boxes,
        rows), C (boxes, rows, outputs)."""
        mixed, offset = np.matmul(weights[:, None], C), (weights * d).sum(1, keepdims=True)
        # What is off of these sums counts where the output, or 1, is at its largest.
        off = np.matmul(weights[:, None], np.abs(C))
        size = _dot(off, self._sizes[-1][boxes] + FLOOR)
        size = size + (weights * np.abs(d)).sum(1, keepdims=True) + FLOOR
        paid = gamma(weights.shape[1]) * size
        return self._from_output(mixed, offset, paid, boxes, rule).least[:, 0]

    def _from_output(
        self,
        C: np.ndarray,
        d: np.ndarray,
        paid: np.ndarray | float,
        boxes: np.ndarray,
        rule: Rule,
    ) -> Forms:
        last = len(self.passes.nodes) - 1
        forms = self._descend(last, C, boxes, rule, d, paid + gamma(self._sums) * np.abs(d))
        return Forms(forms.c, np.where(self.usable[boxes, None], forms.least, -np.inf))

    def _slopes(self, boxes: np.ndarray, adaptive: np.ndarray) -> Rule:
        def through(k: int, here: np.ndarray) -> Passed:
            face = self.faces[k]
            negative = np.minimum(here, 0)
            lost = _dot(negative, face.cut[boxes])
            above = face.above[boxes]
            below = np.where(adaptive[:, None], face.adaptive[boxes], above)
            there = np.maximum(here, 0)
            there *= below[:, None]
            negative *= above[:, None]
            there += negative
            return there, lost, -lost

        return through

    @staticmethod
    def multipliers(
        bounds: Sequence[tuple[np.ndarray, np.ndarray]],
        nu: Sequence[np.ndarray],
        given: Sequence[np.ndarray],
    ) -> Rule:
        """ν where it is given, and else c where l ≥ 0 and 0 elsewhere, for one row a box; with l
        and u of each ReLU. All (boxes, numbers), or (1, numbers) for all of them."""

        def through(k: int, here: np.ndarray) -> Passed:
            c, (lower, upper) = here[:, 0], bounds[k]
            there = np.where(given[k], nu[k], np.where(lower >= 0, c, 0.0))
            at_lower = c * np.maximum(lower, 0) - there * lower
            at_upper = c * np.maximum(upper, 0) - there * upper
            least = np.minimum(at_lower, at_upper)
            least = np.where((lower < 0) & (upper > 0), np.minimum(least, 0), least)
            size = (np.abs(c) + np.abs(there)) * np.maximum(np.abs(lower), np.abs(upper))
            return there[:, None], least.sum(1)[:, None], size.sum(1)[:, None]

        return through

    def _descend(
        self,
        start: int,
        rows: np.ndarray,
        boxes: np.ndarray,
        rule: Rule,
        constant: np.ndarray,
        paid: np.ndarray,
    ) -> Forms:
        passes = self.passes
        shape = rows.shape[:2]
        arrived = {start: rows}
        for index in range(start, 0, -1):
            if index not in arrived:
                continue
            here, node = arrived.pop(index), passes.nodes[index]
            if isinstance(node, AffineNode):
                if index in self._prices:
                    paid = paid + _dot(np.abs(here), self._prices[index][boxes])
                bias = passes.bias[index]
                if bias is not None:
                    constant = constant + here @ bias
                flat = here.reshape(-1, here.shape[2])
                here = passes.matrix[index].backward(flat).reshape(*shape, -1)
            elif isinstance(node, ReluNode):
                here, least, size = rule(passes.relus.index(index), here)
                constant = constant + least
                paid = paid + gamma(here.shape[2] + self._sums) * size
            for parent in node.parents:
                if parent in arrived:
                    here = arrived[parent] + here
                    paid = paid + _dot(np.abs(here), 2 * UNIT * self._sizes[parent][boxes] + FLOOR)
                arrived[parent] = here
        return self._forms(arrived.get(0), boxes, constant, paid)

    def _forms(
        self, c: np.ndarray | None, boxes: np.ndarray, constant: np.ndarray, paid: np.ndarray
    ) -> Forms:
        inputs = self.lower.shape[1]
        if c is None:
            c = np.zeros((*constant.shape, inputs))
        high, low = np.maximum(c, 0), np.minimum(c, 0)
        least = _dot(high, self.lower[boxes]) + _dot(low, self.upper[boxes])
        size = _dot(high - low, self._sizes[0][boxes] + FLOOR)
        paid = paid + gamma(2 * inputs + self._sums) * size + self._underflow[boxes, None]
        with np.errstate(invalid="ignore"):
            value = down(constant + least - paid)
        return Forms(c, np.where(np.isnan(value), -np.inf, value))


def _dot(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """⟨row, weights of its box⟩; (boxes, rows)."""
    return np.matmul(rows, weights[:, :, None])[..., 0]
