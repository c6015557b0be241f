"""On another device than the CPU everything gives what it gives there, and tensors never mix.

`test_device.py` runs these in a process of their own: a device stays with the process it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import bounds
from benchmarks import gpu
from benchmarks.measure.roofline import Machine, Trace, traced
from benchmarks.support import environment
from bounds import Ball, Network, Relaxation
from bounds.certification import relu_splits
from bounds.certification.choice import Method as CertifyMethod
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.interior_point import interior_point
from bounds.solvers.solve import Method
from tests.support.pretend_device import AVAILABLE, counting, pretend_device

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="torch has no backends in Python")

if AVAILABLE:  # before gradients are asked for
    with pretend_device():
        pass

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
LABELS = load_digits_images()[1][:2]


def digits() -> tuple[Network, Tensor]:
    model = load_digits_model("digits_robust")
    x = load_digits_images()[0][:2].double()
    return bounds.from_torch(model, x.shape[1:], dtype=torch.float64), x


def small() -> tuple[Network, Tensor, Tensor]:
    """Four inputs, three classes: complete searches take few parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
        network = bounds.from_torch(nn.Sequential(*layers), (4,), dtype=torch.float64).detach()
    x = torch.tensor([[0.1, 0.2, -0.3, 0.4], [0.5, -0.2, 0.3, 0.1]], dtype=torch.float64)
    return network, x, network(x).argmax(1)


def relaxed(network: Network, x: Tensor, **options: Any) -> Relaxation:
    return bounds.relax(network, Ball(x, **PIXELS), bounds.margins(LABELS, 10), **options)


def same(there: Tensor, here: Tensor, tolerance: float = 1e-12) -> bool:
    """Whether a tensor of the device is that of the CPU. A device adds up in another order."""
    assert there.device.type == "pretend"
    return torch.allclose(there.detach().cpu(), here.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("intermediate", ["interval", "backward", "optimised", "lp"])
def test_intermediate_bounds(intermediate: Any) -> None:
    network, x = digits()
    here = relaxed(network, x, intermediate=intermediate)
    tolerance = 1e-6 if intermediate == "lp" else 1e-12  # another method solves the LPs
    with pretend_device() as device:
        there = relaxed(network.to(device), x.to(device), intermediate=intermediate)
        for own, known in zip(there.relu_bounds, here.relu_bounds, strict=True):
            assert same(own.lower, known.lower, tolerance)
            assert same(own.upper, known.upper, tolerance)


@pytest.mark.parametrize("method", get_args(Method))
def test_methods(method: Any) -> None:
    network, x = digits()
    # It takes long, and an iteration is as good as many.
    options: dict[str, Any] = {"iteration_limit": 30} if method == "pdhg" else {}
    here = bounds.solve(relaxed(network, x), method=method, **options)
    tolerance = 1e-8 if method in ("interior_point", "exact") else 1e-12  # the gap's
    with pretend_device() as device:
        relaxation = relaxed(network.to(device), x.to(device))
        there = bounds.solve(relaxation, method=method, **options)
        assert same(there.lower, here.lower, tolerance)
        assert same(there.upper, here.upper, tolerance)
        assert same(there.status, here.status)
        assert there.verified.tolist() == here.verified.tolist()


@pytest.mark.parametrize("norm", [1, 2])
def test_balls_of_other_norms(norm: float) -> None:
    network, x = digits()
    here = bounds.solve(norm_relaxed(network, x, norm), method="fixed_slope")
    with pretend_device() as device:
        relaxation = norm_relaxed(network.to(device), x.to(device), norm)
        there = bounds.solve(relaxation, method="fixed_slope")
        assert same(there.lower, here.lower)
        assert same(there.upper, here.upper)


def norm_relaxed(network: Network, x: Tensor, norm: float) -> Relaxation:
    return bounds.relax(network, Ball(x, **PIXELS, norm=norm), bounds.margins(LABELS, 10))


@pytest.mark.parametrize("method", ["fixed_slope", "interior_point"])
def test_float32(method: Any) -> None:
    network, x = digits()
    network, x = network.to(torch.float32), x.float()
    here = bounds.solve(relaxed(network, x), method=method)
    with pretend_device() as device:
        there = bounds.solve(relaxed(network.to(device), x.to(device)), method=method)
        assert there.lower.dtype == here.lower.dtype
        assert same(there.lower, here.lower, 1e-4)
        assert same(there.upper, here.upper, 1e-4)


@pytest.mark.parametrize("method", get_args(CertifyMethod))
def test_certify(method: Any) -> None:
    """Searches of inputs run there, and those of ReLUs on the CPU."""
    network, x, y = small()
    options: dict[str, Any] = {"radius": 0.25, "method": method, "dtype": torch.float64}
    here = bounds.certify(network, x, y, **options)
    with pretend_device() as device:
        there = bounds.certify(network.to(device), x.to(device), y, **options)
        assert there.verdicts == here.verdicts
        torch.testing.assert_close(there.lower, here.lower, rtol=1e-6, atol=1e-6)
        assert [s and s.domains for s in there.searches] == [s and s.domains for s in here.searches]


def test_nodes_by_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a search has many neurons, which these networks have not."""
    monkeypatch.setattr(relu_splits, "SMALL", 0)
    network, x, y = small()
    options: dict[str, Any] = {"radius": 0.25, "method": "relu_split", "dtype": torch.float64}
    here = bounds.certify(network, x, y, **options)
    with pretend_device() as device:
        there = bounds.certify(network.to(device), x.to(device), y, **options)
    assert there.verdicts == here.verdicts
    assert there.chosen == here.chosen
    assert [s and s.domains for s in there.searches] == [s and s.domains for s in here.searches]
    assert any("slopes" in chosen for chosen in here.chosen)


def test_certify_for_another_dtype_than_it_computes_in() -> None:
    network, x = digits()
    options: dict[str, Any] = {**PIXELS, "method": "no_split", "deployed": torch.float32}
    here = bounds.certify(network, x, LABELS, **options)
    with pretend_device() as device:
        there = bounds.certify(network.to(device), x.to(device), LABELS, **options)
        assert there.verdicts == here.verdicts


def test_lp_all() -> None:
    """The LPs of the layers, one after another, with what is left open by them."""
    network, x, y = small()
    ball = Ball(x, radius=0.25)
    here = bounds.solve(bounds.relax(network, ball, bounds.margins(y, 3), intermediate="lp"))
    with pretend_device() as device:
        ball = Ball(x.to(device), radius=0.25)
        relaxation = bounds.relax(network.to(device), ball, bounds.margins(y, 3), intermediate="lp")
        assert sum(relaxation.unsolved) == 0
        assert same(bounds.solve(relaxation).lower, here.lower, 1e-6)


@pytest.mark.parametrize(
    "loss",
    [bounds.robust_loss, bounds.interval_loss, bounds.crown_ibp_loss, bounds.optimised_loss],
)
def test_losses_and_their_gradients(loss: Callable[..., bounds.LossAndError]) -> None:
    network, x = digits()
    x.requires_grad_()
    here = loss(network, x, LABELS, **PIXELS)
    [known] = torch.autograd.grad(here.loss, x)
    with pretend_device() as device:
        own = x.detach().to(device).requires_grad_()
        there = loss(network.to(device), own, LABELS, **PIXELS)
        [found] = torch.autograd.grad(there.loss, own)
        assert same(there.loss, here.loss)
        assert same(found, known)


def test_attacks() -> None:
    network, x = digits()
    options: dict[str, Any] = {**PIXELS, "steps": 5}
    here = bounds.pgd(network, x, LABELS, **options, generator=torch.Generator().manual_seed(0))
    with pretend_device() as device:
        generator = torch.Generator().manual_seed(0)
        there = bounds.pgd(network.to(device), x.to(device), LABELS, **options, generator=generator)
        assert same(there, here)


# -- what it costs, in counts ----------------------------------------------------------------------

#: Launches of a one-pass solve a ReLU layer: of one that chooses slopes, some more.
PASS = {"fixed_slope": 165, "adaptive_slope": 170}
#: Launches of the interior point an iteration.
ITERATION = 150


@pytest.mark.parametrize("method", PASS)
def test_one_pass_waits_for_nothing_and_launches_little(method: Any) -> None:
    network, x = digits()
    with pretend_device() as device:
        relaxation = relaxed(network.to(device), x.to(device))
        with counting() as counts:
            bounds.solve(relaxation, method=method)
        assert sum(counts.waits.values()) == 0
        assert sum(counts.launches.values()) <= PASS[method] * len(network.relus)


def test_an_iteration_waits_once_and_launches_little() -> None:
    """That is for who still runs; no number of a step is known to the host."""
    network, x = digits()
    with pretend_device() as device:
        relaxation = relaxed(network.to(device), x.to(device))
        found = []
        for limit in (2, 3):
            with counting() as counts:
                bounds.solve(relaxation, method="interior_point", iteration_limit=limit)
            found.append(counts)
        assert sum(found[1].waits.values()) - sum(found[0].waits.values()) <= 1
        launches = sum(found[1].launches.values()) - sum(found[0].launches.values())
        assert 50 < launches <= ITERATION


def test_a_step_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = digits()
    waits: list[int] = []

    def step(self: Any) -> None:
        with counting() as counts:
            original(self)
        waits.append(sum(counts.waits.values()))

    original = interior_point._AtWork.step
    monkeypatch.setattr(interior_point._AtWork, "step", step)
    with pretend_device() as device:
        bounds.solve(relaxed(network.to(device), x.to(device)), method="interior_point")
    assert len(waits) > 5
    assert set(waits) == {0}


def test_numbers_are_looked_at_once() -> None:
    network, x = digits()
    with pretend_device() as device:
        relaxation = relaxed(network.to(device), x.to(device))
        first, rows = torch.zeros(1, dtype=torch.long, device=device), slice(None)
        with counting() as counts:
            part = relaxation.take(first, torch.arange(9, device=device)).double()
        assert not counts.waits
        with counting() as counts, pytest.raises(bounds.InvalidInputError, match="NaN or infinite"):
            replace(part, C=part.C[:, rows] * torch.nan)
        assert sum(counts.waits.values()) == 1


@pytest.mark.parametrize("part", ["dual_equals_lp", "lp_rate", "fixed_slope"])
def test_the_program_for_a_gpu(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of it: all others are calls that are checked above."""
    monkeypatch.setattr(environment, "matrix_rate", lambda _: 1.0)
    with pretend_device() as device:
        found = gpu.run(part, device, gpu.BUDGETS["small"])
    assert found["ended"] == "complete"
    assert gpu.right(found)


def test_tensors_of_two_devices_are_refused() -> None:
    with pretend_device() as device, pytest.raises(RuntimeError, match="two devices"):
        torch.ones(2, device=device) + torch.ones(2)


def test_what_a_roofline_says_of_a_call() -> None:
    """A product of 2 · 8 · 16 · 4 flops, a factor of 16³ / 3, a sum of 32 numbers and one wait."""
    machine = Machine("of round numbers", {8: 1.0}, 1.0, share=0.5, launch=1.0, wait=7.0)
    with pretend_device() as device:
        a, b = torch.ones(8, 16, device=device).double(), torch.ones(16, 4, device=device).double()
        positive = torch.eye(16, device=device).double()
        trace = traced(lambda: (a @ b, torch.linalg.cholesky_ex(positive)))
        summed = traced(lambda: float((a @ b).sum()))
    assert [operation.flops for operation in trace.operations] == [1024.0, 16**3 / 3]
    product = trace.operations[0]
    assert (product.bytes, product.size) == (8 * (8 * 16 + 16 * 4 + 8 * 4), 8)
    assert product.seconds(machine, 3.0) == {
        "launch": 1.0, "arithmetic": 6 * 1024.0, "memory": 6 * product.bytes
    }  # fmt: skip
    assert Trace((product,), 2).seconds(machine) == {
        "launch": 0.0, "arithmetic": 0.0, "memory": 2 * product.bytes, "wait": 14.0
    }  # fmt: skip
    assert (len(summed.operations), summed.waits) == (3, 1)
