"""Ctrl-C, as signals that arrive at a stated look at the deadline: what is finished is kept, bounds
of the rest hold, nothing is proved that was not, and the second one ends everything at once."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

import bounds
from bounds import Interrupted, InvalidInputError, Status
from bounds.deadline import Deadline
from bounds.interrupt import interruptible
from bounds.models import load_digits_images, load_digits_model
from bounds.network.memory import pass_numbers
from tests.support.referee import random_net
from tests.support.refusals import refused

#: Given the number of a look at a deadline: from when on signals arrive, one every look, and how
#: many.
Signals = Callable[..., None]


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    """Call it to let SIGINT arrive when a deadline is looked at for the n-th time."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    real = Deadline.passed.fget  # type: ignore[attr-defined]
    looks, coming = 0, range(0)

    def passed(self: Deadline) -> bool:
        nonlocal looks
        looks += 1
        if looks in coming:
            os.kill(os.getpid(), signal.SIGINT)
        return bool(real(self))

    def start(look: int, count: int = 1) -> None:
        nonlocal looks, coming
        looks, coming = 0, range(look, look + count)

    monkeypatch.setattr(Deadline, "passed", property(passed))
    yield start
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


def partial_of(call: Callable[[], object]) -> Any:
    with pytest.raises(Interrupted) as caught:
        call()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return caught.value.partial


def problem(inputs: int = 6) -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    images, labels = load_digits_images()
    model = load_digits_model("digits_standard")
    network = bounds.from_torch(model, (1, 8, 8), dtype=torch.float64).detach()
    ball = bounds.Ball(images[:inputs].double(), radius=0.02, lower=0.0, upper=1.0)
    return network, ball, bounds.margins(labels[:inputs], 10)


@pytest.mark.parametrize("method", ["fixed_slope", "adaptive_slope"])
def test_one_pass_keeps_the_parts_that_are_done(method: Any, signals: Signals) -> None:
    relaxation = bounds.relax(*problem())
    memory = 8 * 20 * pass_numbers(relaxation.network)
    whole = bounds.solve(relaxation, method=method, max_memory=memory)
    assert whole.verified.all()
    signals(2)
    part = partial_of(lambda: bounds.solve(relaxation, method=method, max_memory=memory))
    done = part.status == Status.BOUND
    assert 0 < done.sum() < done.numel()
    assert (part.lower[done] == whole.lower[done]).all()
    assert (part.status[~done] == Status.TIME_LIMIT).all()
    assert (part.lower[~done] == -math.inf).all()
    assert (part.upper[~done] == math.inf).all()
    assert part.verified.tolist() == done.all(1).tolist()


def test_what_one_pass_kept_can_be_checked(signals: Signals, tmp_path: Any) -> None:
    network, ball, rows = problem()
    relaxation = bounds.relax(network, ball, rows)
    memory = 8 * 20 * pass_numbers(network)
    signals(2)
    part = partial_of(lambda: bounds.solve(relaxation, method="adaptive_slope", max_memory=memory))
    part.certificate.save(tmp_path / "part")
    checked = bounds.check(tmp_path / "part", network)
    assert checked.accepted, checked.rejections
    assert all(checked.verified[part.verified.numpy()])
    assert 0 < part.verified.sum() < len(part.verified)


@pytest.mark.parametrize("method", ["interior_point", "simplex", "pdhg", "optimised_slope"])
@pytest.mark.parametrize("look", [1, 3, 8])
def test_solve_keeps_what_it_has(method: Any, look: int, signals: Signals) -> None:
    relaxation = bounds.relax(*problem(3))
    optimum = bounds.solve(relaxation).lower
    signals(look)
    part = partial_of(lambda: bounds.solve(relaxation, method=method, tolerance=1e-6))
    assert (part.status == Status.TIME_LIMIT).any()
    assert set(part.status.unique().tolist()) <= {Status.TIME_LIMIT, Status.OPTIMAL}
    slack = 1e-9 * optimum.abs().clamp(min=1)
    assert (part.lower <= optimum + slack).all()
    assert (part.upper >= optimum - slack).all()
    assert torch.isfinite(part.lower).all()


@pytest.mark.parametrize("intermediate", ["backward", "optimised", "lp"])
def test_relax_keeps_bounds_that_hold(intermediate: Any, signals: Signals) -> None:
    network, ball, rows = problem(3)
    whole = bounds.relax(network, ball, rows, intermediate=intermediate)
    boxes = bounds.relax(network, ball, rows, intermediate="interval")
    signals(1)
    part = partial_of(lambda: bounds.relax(network, ball, rows, intermediate=intermediate))
    assert part.timed_out
    for one, box, tight in zip(part.relu_bounds, boxes.relu_bounds, whole.relu_bounds, strict=True):
        assert (one.lower >= box.lower - 1e-9).all()
        assert (one.lower <= tight.lower + 1e-9).all()


def test_certify_answers_as_far_as_it_came(signals: Signals) -> None:
    """And what it has not looked at is unknown, however easy it is."""
    images, labels = load_digits_images()
    model = load_digits_model("digits_standard").double()
    x, y = images.double().repeat(5, 1, 1, 1)[:70], labels.repeat(5)[:70]
    options: dict[str, Any] = {"radius": 0.02, "lower": 0.0, "upper": 1.0}
    whole = bounds.certify(model, x, y, **options)
    seen = []
    for look in (1, 4, 40):
        signals(look)
        part = partial_of(lambda: bounds.certify(model, x, y, **options))
        for short, long in zip(part.verdicts, whole.verdicts, strict=True):
            assert short in ("unknown", long)
        assert part.verdicts[-1] == "unknown"
        seen.append(part.verdicts.count("unsat"))
    assert seen[0] == 0 < seen[-1] < whole.verdicts.count("unsat")


def test_a_proof_is_not_written_after_ctrl_c(signals: Signals, tmp_path: Any) -> None:
    network, x = random_net(3, 8, 2, seed=3), torch.zeros(1, 3).double()
    signals(1)
    path = tmp_path / "proof"
    partial_of(lambda: bounds.certify(network, x, int(network(x).argmax()), radius=0.1, proof=path))
    assert not path.exists()


CALLS = ["output_bounds", "minimum", "certified_radius", "audit", "attribute"]


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_may_come_at_any_look(call: str, signals: Signals) -> None:
    """What is kept is what the call returns, and says nothing that the whole call contradicts."""
    network, x = random_net(3, 8, 8, 2, seed=3), torch.zeros(2, 3).double()
    box, rows = bounds.Box(x - 0.3, x + 0.3), bounds.margins(0, 2)
    true = bounds.output_bounds(network, box)
    claims = {"output": (true.lower - 0.1, true.upper + 0.1)}
    calls: dict[str, Callable[[], Any]] = {
        "output_bounds": lambda: bounds.output_bounds(network, box),
        "minimum": lambda: bounds.minimum(network, box, rows),
        "certified_radius": lambda: bounds.certified_radius(
            network, x, network(x).argmax(1), most=1.0
        ),
        "audit": lambda: bounds.audit(network, box, claims, complete=True),
        "attribute": lambda: bounds.attribute(network, box, rows),
    }
    whole = calls[call]()
    for look in range(1, 30, 3):
        signals(look)
        try:
            part = calls[call]()
        except Interrupted as stop:
            part = stop.partial
        assert type(part) is type(whole)
        match call:
            case "output_bounds" | "minimum":
                assert (part.lower <= whole.upper + 1e-9).all()
                assert (part.upper >= whole.lower - 1e-9).all()
            case "certified_radius":
                assert (part.proved <= whole.refuted).all()
            case "audit":
                assert part.count("refuted") == 0
                assert part.count("proved") <= whole.count("proved")
            case _:
                assert (part.minimum[0] <= whole.minimum[1] + 1e-9).all()
                assert (part.minimum[1] >= whole.minimum[0] - 1e-9).all()
    signals(1)
    partial_of(calls[call])


def test_the_second_ctrl_c_ends_it_at_once(signals: Signals) -> None:
    relaxation = bounds.relax(*problem())
    memory = 8 * 20 * pass_numbers(relaxation.network)
    signals(2, 2)
    with pytest.raises(KeyboardInterrupt) as caught:
        bounds.solve(relaxation, method="fixed_slope", max_memory=memory)
    assert not isinstance(caught.value, Interrupted)


def test_the_second_ctrl_c_does_not_lose_what_certify_knows(signals: Signals) -> None:
    network, ball, _ = problem(3)
    signals(2, 2)
    part = partial_of(lambda: bounds.certify(network, ball.x, 0, radius=0.02))
    assert len(part.verdicts) == 3


def test_a_handler_of_the_callers_own_is_left_alone(signals: Signals) -> None:
    relaxation, came = bounds.relax(*problem(2)), []
    previous = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    signals(2)
    solution = bounds.solve(relaxation, method="simplex")
    signal.signal(signal.SIGINT, previous)
    assert came == [1]
    assert (solution.status == Status.OPTIMAL).all()


def test_other_threads_solve_undisturbed(signals: Signals) -> None:
    """Also while the main thread's call is interrupted."""
    relaxation, found = bounds.relax(*problem(2)), []
    late = threading.Thread(target=lambda: found.append(bounds.solve(relaxation)))

    def interrupted() -> None:
        with interruptible("outer"):
            assert Deadline().passed
            late.start()
            late.join()

    signals(1)
    assert partial_of(interrupted) is None
    [solution] = found
    assert (solution.status == Status.OPTIMAL).all()


def test_errors_after_ctrl_c_are_no_reason_to_go_on(signals: Signals) -> None:
    def fail() -> None:
        with interruptible("outer"):
            Deadline().passed  # noqa: B018  when signals arrive
            raise InvalidInputError("later.")

    with pytest.raises(InvalidInputError):
        fail()
    signals(1)
    with pytest.raises(KeyboardInterrupt):
        fail()


# -- bars


def shows(capsys: pytest.CaptureFixture[str], call: Callable[[], object], *words: str) -> None:
    call()
    out, err = capsys.readouterr()
    assert out == ""
    for word in words:
        assert word in err, err


METHODS = [
    "fixed_slope", "adaptive_slope", "optimised_slope", "interior_point", "simplex", "pdhg",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bars_of_solve_end_full(
    method: Any, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    network, x = random_net(3, 8, 8, 2, seed=3), torch.zeros(4, 3, dtype=dtype)
    ball = bounds.Ball(x, radius=0.5)
    relaxation = bounds.relax(network.to("cpu", dtype), ball, bounds.margins(0, 2))
    call = partial(bounds.solve, relaxation, method=method)
    shows(capsys, lambda: call(progress=True), "solve", "4/4 rows")
    call()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("intermediate", ["interval", "backward", "optimised", "lp"])
def test_bars_of_relax_end_full(intermediate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    network, ball = (
        random_net(3, 8, 8, 2, seed=3),
        bounds.Ball(torch.zeros(4, 3).double(), radius=0.5),
    )
    layers = 24 if intermediate == "optimised" else 8
    shows(
        capsys,
        lambda: bounds.relax(
            network, ball, bounds.margins(0, 2), intermediate=intermediate, progress=True
        ),
        f"{layers}/{layers} layers",
    )  # fmt: skip


def test_bars_of_the_other_calls_end_full(capsys: pytest.CaptureFixture[str]) -> None:
    network, x = random_net(3, 8, 8, 2, seed=3), torch.zeros(2, 3).double()
    box, rows, y = bounds.Box(x - 0.3, x + 0.3), bounds.margins(0, 2), network(x).argmax(1)
    true = bounds.output_bounds(network, box)
    claims = {"output": (true.lower - 0.1, true.upper + 0.1)}
    many = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    p: dict[str, Any] = {"progress": True}
    shows(capsys, lambda: bounds.certify(network, many, 0, radius=0.2, **p), "40/40 inputs")
    shows(capsys, lambda: bounds.certified_radius(network, x, y, most=1.0, **p), "2/2 inputs")
    shows(capsys, lambda: bounds.minimum(network, box, rows, **p), "2/2 rows")
    shows(capsys, lambda: bounds.output_bounds(network, box, **p), "4/4 layers", "8/8 rows")
    shows(capsys, lambda: bounds.audit(network, box, claims, **p), "8/8 ends")
    shows(capsys, lambda: bounds.attribute(network, box, rows, **p), "relax", "solve", "minimum")


def test_a_bar_or_none() -> None:
    network, x = random_net(3, 8, 2, seed=3), torch.zeros(1, 3).double()
    box, rows = bounds.Box(x, x), bounds.margins(0, 2)
    relaxation = bounds.relax(network, box, rows)
    calls: list[Callable[..., object]] = [
        lambda **p: bounds.relax(network, box, rows, **p),
        lambda **p: bounds.solve(relaxation, **p),
        lambda **p: bounds.solve(relaxation, method="fixed_slope", **p),
        lambda **p: bounds.certify(network, x, 0, radius=0.1, **p),
        lambda **p: bounds.certified_radius(network, x, 0, most=0.1, **p),
        lambda **p: bounds.minimum(network, box, rows, **p),
        lambda **p: bounds.output_bounds(network, box, **p),
        lambda **p: bounds.audit(network, box, {}, **p),
        lambda **p: bounds.attribute(network, box, rows, **p),
    ]
    for call in calls:
        refused(lambda call=call: call(progress="yes"), InvalidInputError, "progress='yes'")
