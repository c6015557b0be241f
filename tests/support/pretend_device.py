"""A device that is not there: its tensors say they are on "pretend", and compute on the CPU.

What would go wrong or cost time on a real one shows here: tensors of two devices in one operation
are refused, as far as torch refuses them; every operation is counted, and so is everything for
which the host would have to wait.

It rests on a hook for backends that are written in Python (torch ≥ 2.8), of which `AVAILABLE` says
whether it is there.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from tests.conftest import CHECKOUT

try:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as _setup
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

#: Operations whose result, or its shape, the host has to know.
WAITS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim"),
    *("_unique2", "unique_consecutive", "repeat_interleave"),
}
#: Operations that take indices from the host.
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
#: Operations that launch nothing: other views of the same numbers, and room for some.
VIEWS = {
    *("_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "permute", "select"),
    *("slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold"),
    *("unsqueeze", "view", "empty", "empty_like", "new_empty", "empty_strided"),
}
#: Copies from one device to another.
COPIES = {"_to_copy", "copy_"}


@dataclass
class Counts:
    """operations, launches, waits: how many came from each line of the package, "file:line".
    launches: of the operations, those that are no `VIEWS`."""

    operations: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)


@cache
def _device() -> torch.device:
    _setup("pretend")
    return torch.device("pretend:0")


class OnDevice(Tensor):
    """`held` is where its numbers are, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, layout=held.layout, device=_device(),
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, *_: object, **__: object) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _Mode.current.run(operation, args, kwargs or {})

    def tolist(self) -> Any:
        _Mode.current.wait()
        return self.held.tolist()


class _Mode(TorchDispatchMode):
    """Sees operations that make tensors, too."""

    current: _Mode

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return self.run(operation, args, kwargs or {})

    def wait(self) -> None:
        self.counts.waits[_line()] += 1

    def run(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = operation._schema.name.removeprefix("aten::")
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        ours = [each for each in tensors if isinstance(each, OnDevice)]
        target = kwargs.get("device")
        to_device = bool(ours) if target is None else torch.device(target).type == "pretend"
        if ours or to_device:
            line = _line()
            self.counts.operations[line] += 1
            self.counts.launches[line] += name not in VIEWS
            self._require_together(name, args, tensors)
            if name in WAITS or (name == "_to_copy" and not to_device):
                self.wait()
        kwargs = kwargs if target is None else {**kwargs, "device": torch.device("cpu")}
        held_args, held_kwargs = tree_map(_held, (args, kwargs))
        found = operation(*held_args, **held_kwargs)
        written = _written(operation, args, kwargs)
        if written is not None:
            return written
        return tree_map(_placed, found) if to_device else found

    def _require_together(self, name: str, args: Any, tensors: list[Tensor]) -> None:
        others = [each for each in tensors if not isinstance(each, OnDevice) and each.dim() > 0]
        if not others or name in COPIES:
            return
        if name in INDEXED and isinstance(args[0], OnDevice):
            self.wait()  # the indices go over
        elif len(others) < len(tensors):
            raise RuntimeError(f"tensors of two devices in {name}, from {_line()}")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _placed(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) else value


def _written(operation: Any, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
    """What an operation in place returns: the tensor it was given."""
    schema = operation._schema
    if not schema.is_mutable or len(schema.returns) != 1:
        return None
    given = [*zip(schema.arguments, args, strict=False)]
    given += [(each, kwargs[each.name]) for each in schema.arguments if each.name in kwargs]
    for argument, value in given:
        alias = argument.alias_info
        if alias is not None and alias.is_write and isinstance(value, Tensor):
            return value
    return None


#: Where the package is.
PACKAGE = f"{CHECKOUT / 'bounds'}/"


def _line() -> str:
    """The line of the package that an operation came from."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return f"{frame.f_code.co_filename.removeprefix(f'{CHECKOUT}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, for what is inside. It has to be there before gradients are first asked for in
    the process, on whatever device."""
    device, mode = _device(), _Mode()
    _Mode.current = mode
    with mode:
        yield device


@contextmanager
def counting() -> Iterator[Counts]:
    """What happens on the device inside."""
    before, _Mode.current.counts = _Mode.current.counts, Counts()
    try:
        yield _Mode.current.counts
    finally:
        _Mode.current.counts = before
