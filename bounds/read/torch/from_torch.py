"""torch module → `Network`, through a torch.fx trace."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from bounds.errors import BoundsError, InvalidInputError, UnsupportedLayerError
from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.network.graph import Network
from bounds.read.operations import is_view
from bounds.read.operations.common import BATCH, unsupported
from bounds.read.torch.functions import ATTRIBUTES, FUNCTIONS, IN_PLACE, METHODS
from bounds.read.torch.layers import VIEW_MODULES, read_layer


def from_torch(
    model: nn.Module, input_shape: Sequence[int], *, dtype: torch.dtype | None = None
) -> Network:
    """Read a torch module into a `Network`.

    Args:
        model: an `nn.Sequential`, or any module that torch.fx traces to the layers of
            `bounds.read.torch.layers` and the functions of `bounds.read.torch.functions`: dense and
            convolution layers, batch normalisation and dropout in eval mode, average and maximum
            pooling, ReLU and its piecewise linear relatives, sums, products with constants, and
            whatever moves numbers within a sample.
        input_shape: the shape of one sample, without the batch axis.
        dtype: torch.float32 or torch.float64; default: that of the model's parameters.

    Raises:
        UnsupportedLayerError: names the first layer or attribute that is not modelled, with the
            remedy.
        InvalidInputError: shapes that do not fit, NaN or infinite parameters, a dtype that is not
            floating.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInputError(
            f"from_torch got a {type(model).__name__}, expected a torch.nn.Module: pass "
            "the model itself."
        )
    numbers = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    dtype = dtype or (numbers[0].dtype if numbers else torch.get_default_dtype())
    device = numbers[0].device if numbers else torch.get_default_device()
    build = NetworkBuilder(input_shape, dtype, device)
    if _global_forward_hooks or _global_forward_pre_hooks:
        raise UnsupportedLayerError(
            "forward hooks are registered on every module of this process, whose effect is not "
            "modelled: remove them."
        )
    # An nn.Linear given on its own would be traced through; inside a Sequential it stays a layer
    # with a name.
    root = nn.Sequential(model)
    try:
        graph = fx.GraphModule(root, _Tracer().trace(root))
    except BoundsError:
        raise
    except Exception as error:  # whatever the model's own forward raises under tracing
        raise UnsupportedLayerError(
            f"torch.fx cannot trace {type(model).__name__} ({error}): give it one input tensor, "
            "and remove control flow that depends on it."
        ) from error
    output = _Reader(graph, build).run(build.input)
    if not isinstance(output, Symbol):
        raise UnsupportedLayerError(
            f"{type(model).__name__} returns {type(output).__name__}, expected one tensor that "
            "depends on its input: wrap the model so that it returns its logits."
        )
    return build.finish(output)


class _Proxy(fx.Proxy):
    """Records `x += y` as such; fx records `x = x + y`, and other names of x keep the old value."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # so that a model which changes its buffers is seen to do so

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Reader(fx.Interpreter):
    """Runs the traced graph on a `Symbol`; what does not depend on the input stays a constant."""

    def __init__(self, graph: fx.GraphModule, build: NetworkBuilder) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.extra_traceback = False
        self.build = build

    def run_node(self, n: fx.Node) -> Any:
        stack = n.meta.get("nn_module_stack") or {}
        inside = next(reversed(stack)) if stack else ""
        name = n.target if n.op == "call_module" else f"{inside}.{n.name}" if inside else n.name
        self.build.at = str(name).removeprefix("0.")
        if self._in_place(n) and not _sole_use(n.all_input_nodes[0]):
            raise self.build.refuse(
                "it changes in place a tensor that is used elsewhere, or that the model keeps",
                "use the variant that is not in place",
            )
        try:
            return super().run_node(n)
        except BoundsError:
            raise
        except Exception as error:  # arguments that no handler knows
            name = getattr(n.target, "__name__", n.target)
            raise unsupported(self.build, f"{name} as called here ({error})") from error

    def _in_place(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return getattr(self.fetch_attr(str(n.target)), "inplace", False)
        if n.op == "call_method":
            return str(n.target).endswith("_")
        return n.target in IN_PLACE or bool(n.kwargs.get("inplace", False))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is getattr and isinstance(args[0], Symbol):
            if args[1] not in ATTRIBUTES:
                raise unsupported(self.build, f"Tensor.{args[1]}")
            return ATTRIBUTES[args[1]](self.build, args[0])
        if target is operator.getitem and isinstance(args[0], tuple):
            return super().call_function(target, args, kwargs)
        if not _depends(args, kwargs):
            return super().call_function(target, args, kwargs)
        if target not in FUNCTIONS:
            raise unsupported(self.build, getattr(target, "__name__", str(target)))
        return FUNCTIONS[target](self.build, *args, **kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _depends(args, kwargs):
            return super().call_method(target, args, kwargs)
        if target not in METHODS:
            raise unsupported(self.build, f"Tensor.{target}")
        return METHODS[target](self.build, *args, **kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _depends(args, kwargs):
            return super().call_module(target, args, kwargs)
        (x,) = (*args, *kwargs.values())
        return read_layer(self.build, self.fetch_attr(target), x)


def _depends(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    found: list[Any] = []
    fx.node.map_aggregate(
        (args, kwargs), lambda a: found.append(a) if isinstance(a, Symbol) or a is BATCH else a
    )
    return bool(found)


def _sole_use(node: fx.Node) -> bool:
    """Whether nothing but one consumer sees this node's memory, looking through views of it."""
    if len(node.users) > 1 or node.op == "get_attr":  # the model itself keeps its parameters
        return False
    if node.op == "placeholder":
        return True
    if node.op == "call_module":
        owner: Any = node.graph.owning_module
        shares = isinstance(owner.get_submodule(node.target), VIEW_MODULES)
    else:
        handlers: Any = METHODS if node.op == "call_method" else FUNCTIONS
        shares = node.target is getattr or is_view(handlers.get(node.target))
    return not shares or _sole_use(node.all_input_nodes[0])
