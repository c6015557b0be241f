"""How far a linear function falls below its value at the centre of a ball that a box cuts.

Let η = x − centre, η_j ∈ [−a_j, b_j] with a, b ≥ 0, and |η| ≤ r in the ball's norm. With the sizes
v = |c|, and rooms e_j = a_j where c_j > 0 and b_j elsewhere, for every 0 ≤ q ≤ v

    −⟨c, η⟩  ≤  max {Σ v t : 0 ≤ t ≤ e, ‖t‖ ≤ r}  ≤  r ‖q‖_*  +  Σ (v − q) e :

of the sizes the ball bounds q, and the box the rest. The best q follow from one multiplier a row,

    ℓ1:  q = min(v, λ),      ℓ2:  q = min(v, μ e),

which all rows search for at once, in a few rounds of a few sums each. The right-hand side is
evaluated at what they find: a multiplier that is not the best costs tightness, at second order, and
never soundness. Sizes and rooms have shape (batch, rows, coordinates), radii (batch, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from bounds.network.memory import on_cpu
from bounds.rounding import gamma

#: One of so many coordinates is tried before a search for λ: so few are found in a pass.
SHARE = 64
#: Rounds of either search. Most rows are done after six; one that is not keeps its best multiplier.
ROUNDS = 40
#: Rounds of the one for λ after which hardly any row is done.
UNCHECKED = 4
#: How close to the best multiplier's a value has to be, in parts of it and of its own rounding.
DONE, ROUNDING = 1e-12, 0.25
#: By what part of itself μ may still change, at least: the value is off by its square.
CLOSE = 1e-6


def l1_spread(sizes: Tensor, rooms: Tensor, budget: Tensor) -> Tensor:
    """The least λ budget + Σ (v − λ)₊ e over λ ≥ 0, of shape (batch, rows); budget: (batch, 1)."""
    if any(tensor.requires_grad for tensor in (sizes, rooms, budget)):
        multiplier, above = _l1_by_sorting(sizes, rooms, budget)
        left = (sizes - multiplier.unsqueeze(2)) * above * rooms
    else:
        multiplier = l1_multiplier(sizes, rooms, budget)
        left = (sizes - multiplier.unsqueeze(2)).clamp_(min=0).mul_(rooms)
    return multiplier * budget + left.sum(2)


def _l1_by_sorting(sizes: Tensor, rooms: Tensor, budget: Tensor) -> tuple[Tensor, Tensor]:
    """The best λ, which is one of the sizes or 0, as a function of them; and which of them the box
    alone bounds, as numbers."""
    with torch.no_grad():
        order = sizes.argsort(2, descending=True)
        used = rooms.expand_as(sizes).gather(2, order).cumsum(2)
        filled = used < budget.unsqueeze(2)
        after = filled.sum(2, keepdim=True)
        above = torch.zeros_like(sizes).scatter(2, order, filled.to(sizes))
        last = torch.cat((order, order[:, :, :1]), 2).gather(2, after)
        some = (after < sizes.shape[2]).to(sizes)
    return (sizes.gather(2, last) * some).squeeze(2), above


def l1_multiplier(sizes: Tensor, rooms: Tensor, budget: Tensor) -> Tensor:
    """The best λ, (batch, rows), or nearly.

    It is the size of the coordinate that uses up the budget, from the largest size on. Where that
    is not among the first few, there is a search: the value is convex in λ, at each λ' filled +
    slope λ', where filled = Σ {v e : v > λ'} and slope = budget − Σ {e : v > λ'}, which is also its
    tangent there. Those at both ends of a bracket, from 0 to the largest size, meet at the mean of
    the sizes in between, weighted by their rooms: there lies a bound on all values, and the next λ
    to try. The first one is half of the largest size at least, as most sizes are below the best λ
    of all balls that matter.
    """
    if on_cpu(sizes):  # elsewhere it would wait
        among_largest = _of_few(sizes, rooms, budget)
        if among_largest is not None:
            return among_largest
    # New memory for every product would cost several times the products; and calls of operations on
    # a number a row cost as much as products.
    done = max(DONE, ROUNDING * gamma(sizes.shape[2], sizes.dtype))
    scratch = torch.sign(sizes).mul_(rooms)
    slope, last = budget - scratch.sum(2), sizes.amax(2)
    # Without a slope downwards from 0, the box alone bounds.
    bound_by_box, nothing = slope >= 0, torch.zeros_like(last)
    # At each end: λ, what is filled and the slope.
    left = torch.stack((nothing, scratch.mul_(sizes).sum(2), slope))
    right = torch.stack((last, nothing, budget.expand_as(last)))
    for step in range(ROUNDS):
        low, filled_low, slope_low = left.unbind()
        high, filled_high, slope_high = right.unbind()
        trial = ((filled_low - filled_high) / (slope_high - slope_low)).clamp(low, high)
        if step == 0:
            trial = trial.maximum(last / 2)
        elif step >= UNCHECKED and on_cpu(sizes):  # elsewhere it would wait
            best = torch.minimum(_value(left), _value(right))
            least = torch.addcmul(filled_low, slope_low, trial)
            if not bool((best - least > done * best).any()):
                break
        torch.gt(sizes, trial.unsqueeze(2), out=scratch).mul_(rooms)
        slope = budget - scratch.sum(2)
        tried, falls = torch.stack((trial, scratch.mul_(sizes).sum(2), slope)), slope < 0
        left, right = torch.where(falls, tried, left), torch.where(falls, right, tried)
    found = torch.where(_value(left) < _value(right), left[0], right[0])
    return torch.where(bound_by_box, 0.0, found)


def _of_few(sizes: Tensor, rooms: Tensor, budget: Tensor) -> Tensor | None:
    """The best λ, where the budget of no row is for more than the few largest sizes with room."""
    count = sizes.shape[2] // SHARE
    if count == 0:
        return None
    largest, order = torch.sign(rooms).mul_(sizes).topk(count, 2)
    filled = rooms.gather(2, order).cumsum(2) < budget.unsqueeze(2)
    if bool(filled[:, :, -1].any()):
        return None
    return largest.gather(2, filled.sum(2, keepdim=True)).squeeze(2)


def _value(end: Tensor) -> Tensor:
    multiplier, filled, slope = end.unbind()
    return torch.addcmul(filled, slope, multiplier)


def l2_spread(sizes: Tensor, rooms: Tensor, radius: Tensor) -> Tensor:
    """The least r ‖q‖₂ + Σ (v − q) e over q = min(v, μ e), μ ≥ 0, of shape (batch, rows), for
    rooms and a radius that are at most about 1; radius: (batch, 1)."""
    multiplier = l2_multiplier(sizes.detach(), rooms.detach(), radius.detach())
    held = torch.minimum(sizes, multiplier.unsqueeze(2) * rooms)
    return radius * vector_norm(held, dim=2) + ((sizes - held) * rooms).sum(2)


def l2_multiplier(sizes: Tensor, rooms: Tensor, radius: Tensor) -> Tensor:
    """The best μ, (batch, rows): Σ min(v / μ, e)² = r².

    From the largest μ on, let those that reach e stay there and the others share what they leave:
    no fewer reach it then.
    """
    ends, budget = rooms * rooms, radius * radius
    squares = torch.sign(ends).mul_(sizes).mul_(sizes)  # what has no room never moves
    # v ≥ e / τ, where an e of 0 is always reached.
    until, moving = sizes.clamp(min=torch.finfo(sizes.dtype).tiny), torch.empty_like(squares)
    torch.div(rooms, until, out=until)
    whole, growth = ends.sum(2), squares.sum(2)
    tau = (budget / growth).sqrt()
    close = 1 + max(CLOSE, (ROUNDING * gamma(sizes.shape[2], sizes.dtype)) ** 0.5)
    for _ in range(ROUNDS):
        torch.gt(until, tau.unsqueeze(2), out=moving)
        still_ends = moving.mul(ends).sum(2)
        growth = moving.mul_(squares).sum(2)
        left = (budget - (whole - still_ends)).clamp(min=0)
        last, tau = tau, torch.maximum(tau, (left / growth).sqrt())
        if on_cpu(sizes) and bool((tau <= last * close).all()):
            break
    return torch.where((growth > 0) & (tau > 0), 1 / tau, 0.0)
