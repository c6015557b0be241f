"""A model's modules for reading alone: what a forward does to their attributes stays with them.

The copies share the parameters, the buffers and the code of the model. So its forward can be called
with hooks that follow the layers' names, without torch.compile, and without a trace left in the
model or in another thread that is calling it.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bounds.errors import InvalidInputError, UnsupportedLayerError

#: What `nn.Module` keeps in dictionaries that registering and assigning change.
OWN = ("_parameters", "_buffers", "_forward_pre_hooks", "_forward_hooks")


def innermost(model: nn.Module) -> nn.Module:
    """The model that wrappers for several devices or for compilation hold."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif _compiled(model):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def private(model: nn.Module) -> nn.Module:
    """Copies of the model and of every module in it."""
    return _copy(model, {})


def follow(
    model: nn.Module, enter: Callable[[str, nn.Module], None], leave: Callable[[], None]
) -> None:
    """Call `enter(path, module)` and `leave()` around each call of a module of a private model."""
    for path, module in model.named_modules():

        def before(module: nn.Module, _: Any, path: str = path) -> None:
            enter(path, module)

        def after(*_: Any) -> None:
            leave()

        module.register_forward_pre_hook(before, prepend=True)
        module.register_forward_hook(after)


def _compiled(module: nn.Module) -> bool:
    frames: Any = sys.modules.get("torch._dynamo.eval_frame")  # costs seconds where it is not there
    return frames is not None and isinstance(module, frames.OptimizedModule)


def _copy(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    module = innermost(module)
    if id(module) in made:
        return made[id(module)]
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayerError(
            f"{type(module).__name__} is TorchScript, whose code is no longer Python: give the "
            "module that it was made from."
        )
    if any(is_lazy(p) for p in module._parameters.values() if p is not None):
        raise InvalidInputError(
            f"{type(module).__name__} has parameters without a shape: call the model once first."
        )
    copy: nn.Module = object.__new__(type(module))
    made[id(module)] = copy
    vars(copy).update(vars(module))
    for name in OWN:
        vars(copy)[name] = type(vars(module)[name])(vars(module)[name])
    vars(copy)["_compiled_call_impl"] = None
    vars(copy)["_modules"] = type(module._modules)(
        (name, None if child is None else _copy(child, made))
        for name, child in module._modules.items()
    )
    if type(module).__module__ != "torch.fx.graph_module":
        return copy
    # What torch.export asserts of its example's batch; the sample's shape is compared anyway.
    vars(copy)["_forward_pre_hooks"] = OrderedDict(
        (key, hook)
        for key, hook in module._forward_pre_hooks.items()
        if getattr(hook, "__name__", "") != "_check_input_constraints_pre_hook"
    )
    if "_guards_fn" in copy._modules:
        copy._modules["_guards_fn"] = nn.Identity()
    return copy


def dice(model: nn.Module) -> bytes:
    """The state of all that draws numbers, but torch: whatever Python, NumPy and the model keep."""
    kinds = random.Random, np.random.Generator, np.random.RandomState
    own = [v for m in model.modules() for v in vars(m).values() if isinstance(v, kinds)]
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False), own))


def floating(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers that are floating-point."""
    return [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
