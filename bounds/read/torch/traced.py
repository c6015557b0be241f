"""A model's own forward, called with a tensor that stands for every input at once.

Whatever torch function meets such a tensor is translated into nodes there and then, with the
parameters as they are; all else (shapes, loops, constants, hooks, parametrisations) is computed as
usual. Nothing is patched and nothing is kept: a model that has changed is read as it is now, and
other threads may call it meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bounds.errors import BoundsError
from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.export.archive import first_line
from bounds.read.operations import is_view, require_samples_alike
from bounds.read.operations.common import BATCH_SIZE, Handler, batch_size_used, unsupported
from bounds.read.torch.functions import ASKED, REFUSED, handler_of, name_of


class Traced(Tensor):
    """A tensor of the network under construction, where forward expects one of torch's."""

    reading: Trace
    symbol: Symbol
    memory: Memory
    version: int

    @staticmethod
    def __new__(cls, trace: Trace, symbol: Symbol, memory: Memory) -> Traced:
        made = Tensor._make_wrapper_subclass(cls, (1, *symbol.shape), dtype=trace.dtype)
        made.reading, made.symbol = trace, symbol
        made.memory, made.version = memory, memory.version
        return made

    def __init__(self, *_: Any) -> None:
        """Made by `__new__`."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found: list[Traced] = []
        _replace((args, kwargs or {}), lambda traced: found.append(traced))
        return found[0].reading.call(func, found, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError(f"{func} of what depends on the input")


class Memory:
    """What a tensor and its views share; `version` counts the changes in place."""

    version = 0


class Trace:
    """The translation of one call of forward: its builder, and where in the model it is."""

    def __init__(self, build: NetworkBuilder, dtype: torch.dtype) -> None:
        self.build, self.dtype, self.device = build, dtype, build.device
        self.refusal: BoundsError | None = None
        self._inside: list[tuple[str, nn.Module]] = []
        self._guard = _Guard(self)

    def enter(self, path: str, module: nn.Module) -> None:
        """A module is called."""
        self._inside.append((path, module))

    def leave(self) -> None:
        """The innermost module has returned."""
        self._inside.pop()

    def run(self, model: Callable[[Tensor], Any]) -> Symbol | Any:
        """What the model returns for the network's input."""
        with self._guard:
            output = model(Traced(self, self.build.input, Memory()))
        if self.refusal is not None:  # which the model's own forward may have caught
            raise self.refusal
        if isinstance(output, Traced):
            self._require_fresh(output)
            return output.symbol
        return output

    def call(
        self, func: Any, found: list[Traced], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A torch function of these arguments, among which the tensors `found` are."""
        name = name_of(func)
        if name in ASKED:
            return ASKED[name](found[0], *args[1:], **kwargs)
        try:
            with self._guard.idle():
                return self._translate(func, name, found, args, kwargs)
        except BoundsError as error:
            self.refusal = self.refusal or error
            raise

    def _translate(
        self,
        func: Any,
        name: str,
        found: list[Traced],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self.build.at = self._place(name)
        for traced in found:
            self._require_fresh(traced)
        if name in REFUSED:
            raise self.build.refuse(*REFUSED[name])
        handler = handler_of(func)
        inside = self._layer()
        if handler is None:
            raise unsupported(self.build, type(inside[1]).__name__ if inside else name)
        target = args[0] if args else kwargs.get("input")
        try:
            args, kwargs = _replace((args, kwargs), lambda traced: traced.symbol)
            require_samples_alike(self.build, handler, (*args, *kwargs.values()))
            result = handler(self.build, *args, **kwargs)
            changed = _in_place(name, handler, args, kwargs)
        except BoundsError:
            raise
        except Exception as error:  # arguments that no handler knows
            raise unsupported(self.build, f"{name} as called here ({first_line(error)})") from error
        if changed:
            return self._changed(target, result)
        memory = found[0].memory if is_view(handler) else None
        if isinstance(result, Symbol):
            return Traced(self, result, memory or Memory())
        if isinstance(result, tuple):
            made = [
                Traced(self, part, memory or Memory()) if isinstance(part, Symbol) else part
                for part in result
            ]
            fields = getattr(result, "_make", tuple)
            return fields(made)
        return result

    def _changed(self, target: Any, result: Symbol) -> Traced:
        """The tensor itself, with other numbers; what else sees its memory must not be used."""
        if not isinstance(target, Traced):
            raise self.build.refuse(
                "it puts what depends on the input into a constant tensor",
                "use the variant that is not in place",
            )
        if result.shape != target.symbol.shape:
            raise self.build.misfit(target.symbol, f"{result.shape}, to change it in place")
        target.symbol = result
        target.memory.version += 1
        target.version = target.memory.version
        return target

    def _require_fresh(self, traced: Traced) -> None:
        if traced.version != traced.memory.version:
            raise self.build.refuse(
                "it reads a tensor of which another view was changed in place",
                "use the variant that is not in place",
            )

    def _layer(self) -> tuple[str, nn.Module] | None:
        """The innermost module, where that is one of torch's own layers."""
        if self._inside and type(self._inside[-1][1]).__module__.startswith("torch.nn.modules."):
            path, module = self._inside[-1]
            if not isinstance(module, nn.Sequential):
                return path, module
        return None

    def _place(self, name: str) -> str:
        inside = self._inside[-1][0] if self._inside else ""
        if self._layer() and inside:
            return inside
        return f"{inside}.{name}" if inside else name

    def random(self, operator: str) -> BoundsError:
        """The refusal of an operator that draws numbers."""
        return self._refuse(
            operator,
            f"{operator} draws random numbers, so that the outputs for one input differ",
            "call model.eval(), or leave it out of forward where self.training is False",
        )

    def stateful(self, operator: str) -> BoundsError:
        """The refusal of a change of what the model keeps."""
        layer = self._layer()
        if layer is not None and isinstance(layer[1], nn.modules.batchnorm._NormBase):
            return self._refuse(
                operator,
                "BatchNorm normalises by the batch at hand, so a sample's output depends on the "
                "others",
                "call model.eval() and keep track_running_stats=True",
            )
        return self._refuse(
            operator,
            f"{operator} changes a parameter or buffer in place, so the output depends on earlier "
            "calls",
            "call model.eval() and keep state out of forward",
        )

    def _refuse(self, operator: str, what: str, remedy: str) -> BoundsError:
        self.build.at = self._place(operator)
        error = self.build.refuse(what, remedy)
        self.refusal = self.refusal or error
        return error


class _Guard(TorchDispatchMode):
    """Watches what forward computes of constants: no random numbers, and no state is changed."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace, self._idle = trace, False
        self._made: dict[int, Any] = {}  # storages by address, kept so that none is used again

    @contextmanager
    def idle(self) -> Iterator[None]:
        """While what is computed is the reader's own."""
        before, self._idle = self._idle, True
        try:
            yield
        finally:
            self._idle = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._idle:
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        if _has_batch_size(args):
            raise batch_size_used()
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise self._trace.random(name)
        if func._schema.is_mutable:
            slots = func._schema.arguments
            given = dict(zip([slot.name for slot in slots], args, strict=False), **kwargs)
            written = [s.name for s in slots if s.alias_info and s.alias_info.is_write]
            if any(_storages(given.get(slot)).keys() - self._made.keys() for slot in written):
                raise self._trace.stateful(name)
        known = {} if name == "lift_fresh" else _storages((args, kwargs))
        result = func(*args, **kwargs)
        self._made.update(
            (key, storage) for key, storage in _storages(result).items() if key not in known
        )
        return result


def _storages(values: Any) -> dict[int, Any]:
    found: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            found[storage._cdata] = storage
        return tensor

    _replace(values, note, Tensor)
    return found


def _replace(value: Any, function: Callable[[Any], Any], kind: type = Traced) -> Any:
    """`value` with `function` applied to every `kind` in its sequences and dictionaries."""
    if isinstance(value, kind):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)([_replace(part, function, kind) for part in value])
    if type(value) is dict:
        return {key: _replace(part, function, kind) for key, part in value.items()}
    return value


def _has_batch_size(values: Sequence[Any]) -> bool:
    """Whether a constant is made for all samples of the batch."""
    return any(
        _has_batch_size(value) if isinstance(value, list | tuple) else value == BATCH_SIZE
        for value in values
        if isinstance(value, int | list | tuple)
    )


@cache
def _flags(handler: Handler) -> inspect.Signature | None:
    signature = inspect.signature(handler)
    return signature if "inplace" in signature.parameters else None


def _in_place(name: str, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call changes its first argument."""
    if name.endswith("_") and not name.endswith("__"):
        return True
    signature = _flags(handler)
    return bool(
        signature and signature.bind_partial(None, *args, **kwargs).arguments.get("inplace", False)
    )
