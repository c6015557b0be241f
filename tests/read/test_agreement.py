"""Models that are not what they were read as: random numbers, state, threads, other devices."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import bounds
from bounds import UnsupportedLayerError, from_torch
from tests.support.building import agree
from tests.support.onnx_graphs import Normal, graph_of, step
from tests.support.refusals import Net, read, refused


def dropped(m: Net, x: Tensor) -> Tensor:
    return x if float(torch.rand(())) < 0.5 else m.linear(x)


RANDOM: dict[str, tuple[Callable[[Net, Tensor], Any], str]] = {
    "noise": (lambda m, x: x + 2 * torch.randn(3), "randn draws"),
    "noise of a shape": (lambda m, x: x + torch.rand(m.buffer.shape), "rand draws"),
    "noise like the input": (lambda m, x: x + torch.randn_like(x), "draws random"),
    "noise in place": (lambda m, x: x + torch.empty(3).normal_(), "normal_ draws"),
    "integers": (lambda m, x: x * torch.randint(9, (3,)), "randint draws"),
    "a permutation": (lambda m, x: x[:, torch.randperm(3)], "randperm draws"),
    "weights that are dropped": (
        lambda m, x: F.linear(x, F.dropout(m.linear.weight)),
        "draws random",
    ),
    "bernoulli": (lambda m, x: x * torch.bernoulli(m.buffer / 2), "bernoulli draws"),
    "multinomial": (lambda m, x: x * torch.multinomial(m.buffer, 1), "multinomial draws"),
    "a distribution": (
        lambda m, x: x + torch.distributions.Normal(m.buffer, m.buffer).rsample(),
        "normal_ draws",
    ),
    "a generator": (lambda m, x: x + torch.rand(3, generator=torch.Generator()), "rand draws"),
    "stochastic depth": (dropped, "rand draws"),
    "caught": (lambda m, x: caught(m, x), "rand draws"),
    "numpy": (lambda m, x: x + float(np.random.rand()), "two evaluations of the model differ"),
    "numpy's generators": (
        lambda m, x: x + float(np.random.default_rng().normal()),
        "two evaluations of the model differ",
    ),
    "Python": (lambda m, x: x * random.random(), "two evaluations of the model differ"),
    "Python, hardly ever": (lambda m, x: x if random.random() < 2 else -x, "numbers of Python or"),
    "NumPy, hardly ever": (lambda m, x: x if np.random.rand() < 2 else -x, "numbers of Python or"),
    "its own generator": (lambda m, x: x if own_draw(m) < 2 else -x, "numbers of Python or NumPy"),
    "a cache": (lambda m, x: cached(m, x), "returns (7, 3) for 1 inputs"),
    "a counter": (lambda m, x: x + counted(), "two evaluations of the model differ"),
}


def caught(m: Net, x: Tensor) -> Tensor:
    try:
        return x + torch.rand(3)
    except Exception:
        return x


def own_draw(m: Net) -> float:
    if "dice" not in vars(m):
        m.dice = np.random.default_rng(0)  # type: ignore[assignment]
    return float(m.dice.random())  # type: ignore[operator]


def cached(m: Net, x: Tensor) -> Any:
    if "kept" not in vars(m):
        vars(m)["kept"] = m.linear(x)
    return vars(m)["kept"]


def counted(calls: list[int] = []) -> int:  # noqa: B006
    calls.append(1)
    return len(calls)


@pytest.mark.parametrize("name", RANDOM)
def test_random_forward(name: str) -> None:
    compute, fragment = RANDOM[name]
    model = Net(compute)
    before = torch.random.get_rng_state()
    refused(read(model), UnsupportedLayerError, fragment)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reading_leaves_everything_as_it_was(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model.to(dtype).eval()
    model[0].requires_grad_(requires_grad=False)
    before = torch.random.get_rng_state(), random.getstate(), torch.is_grad_enabled()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    with torch.autocast("cpu", torch.bfloat16):
        from_torch(model, (3,))
    with torch.inference_mode():
        from_torch(model, (3,))
    after = torch.random.get_rng_state(), random.getstate(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert attributes == {name: dict(vars(module)) for name, module in model.named_modules()}


def test_another_thread_draws() -> None:
    """What is drawn besides does not count, where the model has once been called without."""

    class Net(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 1 and type(x) is Tensor:
                thread = threading.Thread(target=random.random)
                thread.start()
                thread.join()
            return super().forward(x)

    from_torch(Net(3, 3), (3,))


def other_layers(model: nn.Sequential, x: Tensor, y: Tensor) -> None:
    model.append(nn.Linear(3, 3))
    bounds.interval_loss(model, x, y, radius=0.1)


def test_a_module_is_compared_again_whenever_it_is_read() -> None:
    """In training after 0, 1, 2, 4, 8, … readings, and where the layers are others."""

    class Net(nn.Linear):
        calls, noisy = 0, False

        def forward(self, x: Tensor) -> Tensor:
            Net.calls += 1
            result = super().forward(x)
            noisy = self.noisy and type(x) is Tensor
            return result + float(np.random.rand()) if noisy else result

    model, calls = nn.Sequential(Net(3, 3), nn.ReLU()), []
    x, y = torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    for _ in range(9):
        Net.calls = 0
        bounds.interval_loss(model, x, y, radius=0.1)
        calls.append(Net.calls)
    compared = [4, 4, 4, 1, 4, 1, 1, 1, 4]
    assert calls == compared
    for _ in range(2):
        Net.calls = 0
        from_torch(model, (3,))
        assert Net.calls == 4
    bounds.interval_loss(model, x, y, radius=0.1)
    model[0].noisy = True
    for again in (lambda: from_torch(model, (3,)), lambda: other_layers(model, x, y)):
        with pytest.raises(UnsupportedLayerError, match="two evaluations of the model differ"):
            again()


def test_modules_that_say_they_are_equal_are_compared_each() -> None:
    class Equal(nn.Linear):
        calls = 0

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

        def forward(self, x: Tensor) -> Tensor:
            Equal.calls += 1
            return super().forward(x)

    for twin in [Equal(3, 3) for _ in range(5)]:
        Equal.calls = 0
        bounds.robust_loss(twin, torch.zeros(1, 3), 0, radius=0.1)
        assert Equal.calls == 4


def test_state_that_forward_keeps_is_not_the_models() -> None:
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x
            return super().forward(x)

    model = Counting(3, 3).double()
    agree(model, from_torch(model, (3,)), torch.randn(4, 3, dtype=torch.float64))
    assert model.calls == 1  # of `agree`


def test_a_model_is_read_as_it_is_now() -> None:
    model = Net(lambda m, x: m.linear(x)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: setattr(model, "linear", nn.Linear(3, 3).double()),
        lambda: model.linear.register_forward_hook(lambda m, args, y: 2 * y),
        lambda: model.register_forward_pre_hook(lambda m, args: (args[0] + 1,)),
        lambda: setattr(model, "compute", lambda m, x: m.linear(x).relu()),
        lambda: setattr(model.linear, "forward", lambda x: x - 3),
        lambda: parametrizations.weight_norm(model.linear),
        lambda: model.buffer.mul_(7),
    ]
    for change in changes:
        change()
        agree(model, from_torch(model, (3,)), x)


def test_hooks_and_parametrisations_are_computed() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 3).double() for _ in range(4)]
    parametrizations.weight_norm(layers[0])
    prune.random_unstructured(layers[1], "weight", amount=0.5)
    parametrizations.spectral_norm(layers[2]).eval()
    model = nn.Sequential(*layers).double().eval()
    network = from_torch(model, (3,))
    agree(model, network, torch.randn(4, 3, dtype=torch.float64))
    x = torch.randn(4, 3, dtype=torch.float64)
    parameters = list(layers[0].parameters())
    actual = torch.autograd.grad(network(x).square().sum(), parameters)
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-12)
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, y: y + 1)
    try:
        agree(model, from_torch(model, (3,)), x)
    finally:
        handle.remove()


def test_wrappers() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    exported = torch.export.export(model, (x[:1],)).module()
    inner = nn.Sequential(torch.compile(model))
    for wrapped in (nn.DataParallel(model), torch.compile(model), exported, inner):
        assert torch.equal(from_torch(wrapped, (3,))(x), from_torch(model, (3,))(x))
    in_place = nn.Sequential(model)
    in_place.compile()
    agree(model, from_torch(in_place, (3,)), x)


@pytest.mark.parametrize("layer", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_softmax_at_the_end(layer: nn.Module) -> None:
    logits = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    network = from_torch(nn.Sequential(logits, layer), (3,), drop_softmax=True)
    assert torch.equal(network(x), from_torch(logits, (3,))(x))
    refused(
        lambda: from_torch(nn.Sequential(logits, layer, nn.ReLU()), (3,), drop_softmax=True),
        UnsupportedLayerError,
        "layer '1'",
        "followed by other layers",
    )


def test_threads_call_the_model_while_it_is_read() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(5, 4)
    expected, failures, done = model(x), [], threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                if not torch.equal(model(x), expected):
                    failures.append("other values")
            except Exception as error:
                failures.append(repr(error))

    def train() -> None:
        try:
            for _ in range(20):
                bounds.robust_loss(model, x, torch.zeros(5, dtype=torch.int64), radius=0.1)
        except Exception as error:
            failures.append(repr(error))

    callers = [threading.Thread(target=call) for _ in range(2)]
    readers = [threading.Thread(target=train) for _ in range(2)]
    for thread in (*callers, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    done.set()
    for thread in callers:
        thread.join()
    assert not failures


def test_another_default_device_and_dtype() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.AvgPool2d(3, 1), nn.Flatten(), nn.LeakyReLU()),
        nn.Linear(2, 2),
    )
    x = torch.randn(3, 1, 10, 10)
    expected = model(x[:, :, :8, :8])
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        network = from_torch(model, (1, 8, 8))
    finally:
        torch.set_default_device("cpu")
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(network(x[:, :, :8, :8]), expected, rtol=1e-5, atol=1e-5)


def test_files_under_another_default_device(tmp_path: Path) -> None:
    layer = nn.Conv1d(1, 2, 3).eval()
    torch.export.save(torch.export.export(layer, (torch.randn(2, 1, 5),)), tmp_path / "m.pt2")
    steps = step("Conv", 0, Normal((2, 1, 3))), step("MaxPool", 1, kernel_shape=[2])
    model = graph_of(*steps, shape=(1, 1, 5)).model()
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    expected = [bounds.load(tmp_path / name) for name in ("m.pt2", "m.onnx")]
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = [bounds.load(tmp_path / name) for name in ("m.pt2", "m.onnx")]
    finally:
        torch.set_default_device("cpu")
        torch.set_default_dtype(torch.float32)
    x = torch.randn(3, 1, 5)
    for network, other in zip(found, expected, strict=True):
        assert torch.equal(network(x), other(x))


def test_a_squeeze_of_all_axes_takes_a_batch_of_one(tmp_path: Path) -> None:
    """A file that sums along its channels for two samples, and along something else for one."""
    sides = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 2, 3]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["a"], axes=[1]),
        helper.make_node("Squeeze", ["a"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["y"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "", sides[:1], sides[1:])
    opset = helper.make_opsetid("", 7)
    path = tmp_path / "squeeze.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    refused(lambda: bounds.from_onnx(path), UnsupportedLayerError, "differs from it")
