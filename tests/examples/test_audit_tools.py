"""`examples/audit_tools.py`, on stand-ins for the tools: objects of their form, with our bounds."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds.models import DIGITS_SHAPE, load_digits_images, load_digits_model
from examples import audit_tools


def test_matrices_compute_the_same() -> None:
    model = load_digits_model("digits_robust").double()
    images = load_digits_images()[0].double()
    dense = audit_tools.as_matrices(model, DIGITS_SHAPE)
    assert not any(isinstance(layer, nn.Conv2d) for layer in dense)
    torch.testing.assert_close(dense(images.flatten(1)), model(images), rtol=0, atol=1e-9)


class DualNetwork:
    """That of convex_adversarial, as far as it is read."""

    def __init__(self, model: nn.Module, x: Tensor, radius: float, *, bounded_input: bool) -> None:
        assert bounded_input
        self._network = bounds.from_torch(model, x.shape[1:]).detach()
        self._ball = bounds.Ball(x, radius=radius, lower=0.0, upper=1.0)
        layers = bounds.relax(self._network, self._ball, bounds.margins(0, 10)).relu_bounds
        relus = [SimpleNamespace(zl=layer.lower, zu=layer.upper) for layer in layers]
        self.dual_net: list[Any] = [SimpleNamespace(), *relus]

    def __call__(self, c: Tensor) -> Tensor:
        relaxation = bounds.relax(self._network, self._ball, bounds.Specification(c))
        return bounds.solve(relaxation, method="fixed_slope").lower


def test_a_tool_that_is_there_is_audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = ModuleType("convex_adversarial")
    tool.DualNetwork = DualNetwork  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "convex_adversarial", tool)
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    assert audit_tools.main(["--images", "1"]) == 0
    out = capsys.readouterr().out
    assert "of 457 claims are proved, 0 are refuted" in out
    assert "auto_LiRPA, CROWN: left out" in out


def test_without_either_nothing_is_audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("convex_adversarial", "auto_LiRPA"):
        monkeypatch.setitem(sys.modules, name, None)
    assert audit_tools.main([]) == 1
    assert capsys.readouterr().out.count("left out") == 3


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("auto_LiRPA", "convex_adversarial"))),
    reason="neither auto_LiRPA nor convex_adversarial is installed",
)
def test_the_tools_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit_tools.main(["--images", "1"]) == 0
    assert "claims are proved, 0 are refuted" in capsys.readouterr().out
