"""The interior point beyond exactness: how it ends, batches, certificates, linear algebra."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import bounds
from bounds import Box, Relaxation, ReluBounds, Solution, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.network.memory import Numbers
from bounds.solvers.interior_point import batches, interior_point, newton, sparsity
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.newton import NewtonSystem
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.sparsity import panels_of
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from tests.support.networks import Dice
from tests.support.problems import Problem, problems

RELATIVE = 1e-9


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    """Four inputs of different sizes on the standard digits network, 9 rows each."""
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    radius = torch.tensor([0.1, 0.01, 0.05, 0.3], dtype=torch.float64)
    ball = bounds.Ball(images[:4].double(), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:4], 10)).double()


def assert_valid(solution: Solution, relaxation: Relaxation) -> None:
    """Bounds between the fixed slope, where the method starts, and the optimum."""
    exact = bounds.solve(relaxation, method="interior_point")
    fixed = bounds.solve(relaxation, method="fixed_slope")
    slack = RELATIVE * exact.lower.abs().clamp(min=1)
    assert (exact.status == Status.OPTIMAL).all()
    assert (solution.lower <= exact.upper + slack).all()
    assert (solution.lower >= fixed.lower - slack).all()
    assert (solution.upper >= exact.lower - slack).all()


# -- how a solve ends ------------------------------------------------------------------------------


def test_converges_in_few_iterations(digits: Relaxation) -> None:
    solution = bounds.solve(digits, method="interior_point")
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= RELATIVE).all()
    assert solution.iterations.max() <= 25
    assert solution.method == "interior_point"


def test_each_lp_stops_at_its_own_convergence(digits: Relaxation) -> None:
    assert len(bounds.solve(digits, method="interior_point").iterations.unique()) > 3


def test_iteration_limit_is_said_and_bounds_stay_valid(digits: Relaxation) -> None:
    solution = bounds.solve(digits, iteration_limit=3, method="interior_point")
    assert (solution.status == Status.ITERATION_LIMIT).any()
    assert set(solution.status.unique().tolist()) <= {Status.OPTIMAL, Status.ITERATION_LIMIT}
    assert (solution.iterations <= 3).all()
    assert_valid(solution, digits)


def test_time_limit_is_said_and_bounds_stay_valid(digits: Relaxation) -> None:
    solution = bounds.solve(digits, time_limit=1e-9, method="interior_point")
    assert (solution.status == Status.TIME_LIMIT).any()
    assert_valid(solution, digits)


def test_looser_tolerance_takes_fewer_iterations(digits: Relaxation) -> None:
    loose = bounds.solve(digits, tolerance=1e-2, method="interior_point")
    assert (loose.status == Status.OPTIMAL).all()
    assert (loose.relative_gap <= 1e-2).all()
    assert loose.iterations.sum() < bounds.solve(digits, method="interior_point").iterations.sum()
    assert_valid(loose, digits)


def test_breakdown_is_a_numerical_error_with_valid_bounds(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = 0

    def solve(self: NewtonSystem, r: Tensor, *, refine: bool) -> Tensor:
        nonlocal solved
        solved += 1
        step = original(self, r, refine=refine)
        return step if solved < 7 else torch.full_like(step, torch.nan)

    original = NewtonSystem.solve
    monkeypatch.setattr(NewtonSystem, "solve", solve)
    solution = bounds.solve(digits, method="interior_point")
    monkeypatch.undo()
    assert (solution.status == Status.NUMERICAL_ERROR).any()
    assert set(solution.status.unique().tolist()) <= {Status.OPTIMAL, Status.NUMERICAL_ERROR}
    assert_valid(solution, digits)


def test_useless_steps_end_as_numerical_error(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NewtonSystem, "solve", lambda self, r, *, refine: torch.zeros_like(r))
    solution = bounds.solve(digits, method="interior_point")
    monkeypatch.undo()
    assert (solution.status == Status.NUMERICAL_ERROR).any()
    assert_valid(solution, digits)


def test_nan_weights_after_relaxing_are_never_verified(digits: Relaxation) -> None:
    broken = Relaxation(
        digits.network.convert(lambda tensor: tensor * torch.nan),
        digits.input_set,
        digits.C,
        digits.d,
        digits.relu_bounds,
    )
    for method in ("fixed_slope", "adaptive_slope", "interior_point"):
        solution = bounds.solve(broken, method=method)  # type: ignore[arg-type]
        assert (solution.status == Status.NUMERICAL_ERROR).all()
        assert not solution.verified.any()


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_the_last_word_is_the_whole_networks(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    """Whatever the condensed LP says, a gap that the network does not confirm is not closed."""
    original = bounds.Certificate.lower
    monkeypatch.setattr(
        bounds.Certificate,
        "lower",
        lambda self, relaxation, *, sound=True: original(self, relaxation, sound=sound) - error,
    )
    assert (bounds.solve(digits, method="interior_point").status == Status.NUMERICAL_ERROR).all()


def test_bounds_that_cut_off_every_point_are_never_optimal() -> None:
    """ẑ = x + 10 with −1 ≤ ẑ ≤ 1 leaves nothing: the LP is infeasible, its dual unbounded."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer, bias in ((model[0], 10.0), (model[2], 0.0)):
            layer.weight.fill_(1.0)  # type: ignore[union-attr, operator]
            layer.bias.fill_(bias)  # type: ignore[union-attr, operator]
    one = torch.ones(1, 1, dtype=torch.float64)
    relaxation = Relaxation(
        bounds.from_torch(model, (1,)).detach(),
        Box(0 * one, one),
        one.reshape(1, 1, 1),
        torch.zeros(1, 1, dtype=torch.float64),
        (ReluBounds(-one, one),),
    )
    solution = bounds.solve(relaxation, method="interior_point")
    assert (solution.status != Status.OPTIMAL).all()
    assert torch.isinf(solution.upper).all()
    assert (solution.lower > 0).all()
    assert not solution.verified.any()


# -- batches ---------------------------------------------------------------------------------------


@given(problem=problems())
def test_a_batch_is_its_inputs_one_by_one(problem: Problem) -> None:
    relaxation = problem.relax()
    together = bounds.solve(relaxation, method="interior_point")
    rows = torch.arange(relaxation.C.shape[1])
    for image in range(len(relaxation.input_set)):
        alone = bounds.solve(relaxation.take(torch.tensor([image]), rows))
        slack = 2 * RELATIVE * alone.lower.abs().clamp(min=1)
        assert ((together.lower[image] - alone.lower[0]).abs() <= slack).all()


def test_parts_do_not_change_the_answer(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bounds.solve(digits, method="interior_point")
    calls: list[torch.Size] = []

    def solve_condensed(lp: TriangleLP, *arguments: Any, **options: Any) -> Any:
        calls.append(lp.c_0.shape)
        return original(lp, *arguments, **options)

    original = interior_point.solve_condensed
    monkeypatch.setattr(batches, "BATCH", Numbers(cpu=4 * max(digits.unstable) ** 2, device=1))
    monkeypatch.setattr(sparsity, "PANEL", 5)
    monkeypatch.setattr(interior_point, "solve_condensed", solve_condensed)
    images = torch.cat(list(batches.alike(digits)))
    assert sorted(images.tolist()) == list(range(len(digits.input_set)))
    split = bounds.solve(digits, method="interior_point")
    assert len(calls) > len(digits.input_set)
    assert sum(size.numel() for size in calls) == digits.d.numel()
    torch.testing.assert_close(split.lower, whole.lower, rtol=2 * RELATIVE, atol=2 * RELATIVE)
    torch.testing.assert_close(split.certificate.lower(digits), split.lower)


def test_inputs_of_unlike_size_are_not_padded_to_the_largest(digits: Relaxation) -> None:
    for images in batches.alike(digits):
        sizes = [digits.unstable[i] for i in images.tolist()]
        assert max(sizes) <= 1.25 * min(sizes) + 32


# -- certificates ----------------------------------------------------------------------------------


@given(problem=problems())
def test_certificates_give_the_bounds_again(problem: Problem) -> None:
    relaxation = problem.relax()
    for method in ("fixed_slope", "adaptive_slope", "interior_point"):
        solution = bounds.solve(relaxation, method=method)  # type: ignore[arg-type]
        again = solution.certificate
        torch.testing.assert_close(again.lower(relaxation), solution.lower, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(again.upper(relaxation), solution.upper, rtol=1e-12, atol=1e-12)


@given(problem=problems())
def test_any_multipliers_give_a_bound_and_any_point_one_from_above(problem: Problem) -> None:
    """Weak duality, whatever an optimiser may have done."""
    relaxation = problem.relax()
    exact = bounds.solve(relaxation, method="interior_point")
    dice = Dice(problem.seed + 3)
    certificate = exact.certificate
    arbitrary = bounds.Certificate(
        tuple(nu + dice.normal(*nu.shape) for nu in certificate.multipliers),
        torch.where(
            dice.below(2, *certificate.x.shape) == 0,
            relaxation.input_set.lower.unsqueeze(1),
            relaxation.input_set.upper.unsqueeze(1),
        ),
        tuple(dice.normal(*z.shape) for z in certificate.z),
    )
    unit = exact.lower.abs().clamp(min=1)
    assert (arbitrary.lower(relaxation) <= exact.upper + RELATIVE * unit).all()
    assert (arbitrary.upper(relaxation) >= exact.lower - RELATIVE * unit).all()


def test_a_point_outside_the_box_proves_nothing(digits: Relaxation) -> None:
    certificate = bounds.solve(digits, method="interior_point").certificate
    outside = bounds.Certificate(certificate.multipliers, certificate.x + 1, certificate.z)
    assert torch.isinf(outside.upper(digits)).all()


# -- linear algebra --------------------------------------------------------------------------------


def dense(lp: TriangleLP, system: NewtonSystem, image: int, row: int) -> Tensor:
    """T as the docstring of `bounds.solvers.interior_point.newton` writes it."""
    V, A, L = system.V, lp.A[image], lp.L[image]
    V_b, V_33 = V.V[image, row].split([A.shape[1], L.shape[1]])
    cross = L @ V.V_13[image, row].diag()
    return (
        A @ V_b.diag() @ A.mT
        + V.V_11[image, row].diag()
        - cross
        - cross.mT
        + L @ V_33.diag() @ L.mT
    )


@pytest.mark.parametrize("how", ["by panels", "in one", "in parts", "on a device"])
def test_newton_system_is_the_formula(
    how: str, digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparsity, "PANEL", 7)
    lp: TriangleLP = condense(digits)
    if how == "in parts":  # of one input's rows
        monkeypatch.setattr(newton, "ROOM", 2 * lp.AL[0].numel())
    panels = panels_of(lp) if how == "by panels" else None
    assert panels is None or any(panel.first > 0 for panel in panels[0])
    simplices = Simplices(lp)
    metric = simplices.metric(Dice(0).uniform(*lp.c_0.shape, simplices.vertices) + 0.01)
    live = torch.ones_like(lp.c_0, dtype=torch.bool)
    if how == "on a device":
        nothing = torch.zeros_like(lp.c_0).unsqueeze(2)
        system = NewtonSystem(lp, panels, metric, jitter=nothing)
    else:
        live[0, 1] = False
        system = NewtonSystem(lp, panels, metric, live=live)
    r = Dice(1).normal(*lp.c_z.shape)
    solved = system.solve(r, refine=True)
    assert (solved[~live] == 0).all()
    for place, (image, row) in enumerate(live.nonzero()):
        T = dense(lp, system, int(image), int(row))
        factor = system.factor[place].tril()
        torch.testing.assert_close(factor @ factor.mT, T)
        torch.testing.assert_close(T @ solved[image, row], r[image, row])
        x = Dice(2).normal(*lp.c_z.shape)
        torch.testing.assert_close(system._rest(r, x)[image, row], (r - x @ T)[image, row])


def test_a_breakdown_is_no_step_and_lifts_the_diagonal(digits: Relaxation) -> None:
    """Where the host does not look: an LP whose T is not positive definite stays where it is."""
    lp: TriangleLP = condense(digits)
    simplices = Simplices(lp)
    metric = simplices.metric(torch.ones(*lp.c_0.shape, simplices.vertices).double())
    metric.V_11[1, 2] = -1e6
    system = NewtonSystem(lp, None, metric, jitter=torch.zeros_like(lp.c_0).unsqueeze(2))
    assert system.broken is not None
    assert system.broken.squeeze(2).nonzero().tolist() == [[1, 2]]
    solved = system.solve(Dice(1).normal(*lp.c_z.shape), refine=True)
    assert solved.isfinite().all()
    assert (solved[1, 2] == 0).all()
    assert (solved[1, 1] != 0).any()


def test_metric_is_the_covariance_of_the_vertices(digits: Relaxation) -> None:
    lp = condense(digits)
    simplices = Simplices(lp)
    D = Dice(2).uniform(*lp.c_0.shape, simplices.vertices)
    metric = simplices.metric(D)
    zero, far, low = simplices.blocks(D)
    w = torch.stack((low, zero[..., simplices.d :], far[..., simplices.d :]))
    nothing = torch.zeros_like(simplices.lower)
    pre = torch.stack((simplices.lower, nothing, simplices.upper))
    post = torch.stack((nothing, nothing, simplices.upper))
    mean_pre, mean_post = ((w * v).sum(0) / w.sum(0) for v in (pre, post))
    V_33 = metric.V[..., simplices.d :]
    torch.testing.assert_close(metric.V_11, (w * (pre - mean_pre) ** 2).sum(0))
    torch.testing.assert_close(metric.V_13, (w * (pre - mean_pre) * (post - mean_post)).sum(0))
    torch.testing.assert_close(V_33, (w * (post - mean_post) ** 2).sum(0))


def test_an_exchange_is_the_newton_step_of_the_weights(digits: Relaxation) -> None:
    """dt = D ∘ (pull − costs of ν − one number a simplex), which keeps the sums."""
    lp = condense(digits)
    simplices = Simplices(lp)
    shape = (*lp.c_0.shape, simplices.vertices)
    D, pull = Dice(5).uniform(*shape) + 0.1, Dice(6).normal(*shape)
    nu = Dice(7).normal(*lp.c_z.shape)
    metric = simplices.metric(D)
    to_far, to_low = simplices.exchanged(metric, pull)
    simplices.respond(metric, to_far, to_low, nu)
    found = simplices.blocks(simplices.change(to_far, to_low, torch.empty_like(D)))
    far, low = simplices.costs(nu)
    zeros = torch.zeros_like(far)
    costs = simplices.blocks(pull - torch.cat((zeros, far - simplices.far_cost, low), -1))
    weights, d = simplices.blocks(D), simplices.d
    totals = [torch.zeros_like(far), torch.zeros_like(far)]
    for sums, values in zip(totals, ([w * c for w, c in zip(weights, costs, strict=True)], weights),
                            strict=True):  # fmt: skip
        sums += values[0] + values[1]
        sums[..., d:] += values[2]
    mean = totals[0] / totals[1]
    torch.testing.assert_close(found[0], weights[0] * (costs[0] - mean))
    torch.testing.assert_close(found[1], weights[1] * (costs[1] - mean))
    torch.testing.assert_close(found[2], weights[2] * (costs[2] - mean[..., d:]))


def test_condensed_lp_says_what_the_network_says(digits: Relaxation) -> None:
    """Pre-activations and objective of a feasible point, computed either way."""
    lp = condense(digits)
    simplices = Simplices(lp)
    b = Dice(3).uniform(*lp.c_b.shape)
    suggested = Dice(4).normal(*lp.c_z.shape)
    z, value = simplices.push_forward(b, suggested)
    certificate = bounds.Certificate((), lp.point(digits, b), lp.scatter(digits, z))
    torch.testing.assert_close(certificate.upper(digits), value)
