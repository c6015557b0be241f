"""What a model's forward may ask of, or do to, a tensor that depends on its input.

Functions of torch go by their names, which are those of its namespaces `HOMES` and of the methods
of tensors alike.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.read.export.aten import ARGUMENT_NAMES, HANDLERS
from bounds.read.operations import arithmetic, axes, layers, shapes
from bounds.read.operations.common import BATCH, Handler, mentions_batch

HOMES = (torch, Tensor, F, torch._C._nn)

NAMED: dict[str, Handler] = {
    # layers
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "alpha_dropout"), layers.dropout),
    **dict.fromkeys(("dropout_", "feature_dropout", "feature_dropout_"), layers.dropout),
    "linear": layers.linear,
    **dict.fromkeys(("conv1d", "conv2d"), layers.convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), layers.convolution_transpose),
    "batch_norm": layers.batch_norm,
    **{f"max_pool{axes}d": layers.max_pool(axes) for axes in (1, 2)},
    **{f"avg_pool{axes}d": layers.average_pool(axes) for axes in (1, 2)},
    **{f"adaptive_avg_pool{axes}d": layers.adaptive_average_pool(axes) for axes in (1, 2)},
    **dict.fromkeys(("contiguous", "detach", "detach_", "positive"), layers.identity),
    "clone": layers.clone,
    **dict.fromkeys(("cpu", "cuda", "requires_grad_", "alias"), layers.identity),
    **dict.fromkeys(("to", "type_as"), layers.convert),
    "float": layers.convert_to_float,
    "double": layers.convert_to_double,
    **dict.fromkeys(("half", "bfloat16", "int", "long", "bool"), layers.convert_to_other),
    "softmax": layers.softmax(log=False),
    "log_softmax": layers.softmax(log=True),
    # arithmetic
    **dict.fromkeys(("add", "add_", "__radd__"), arithmetic.add),
    **dict.fromkeys(("sub", "sub_", "subtract", "subtract_"), arithmetic.sub),
    **dict.fromkeys(("rsub", "__rsub__"), arithmetic.rsub),
    **dict.fromkeys(("mul", "mul_", "multiply", "multiply_", "__rmul__"), arithmetic.mul),
    **dict.fromkeys(("div", "div_", "divide", "divide_"), arithmetic.div),
    **dict.fromkeys(("true_divide", "true_divide_"), arithmetic.div),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), arithmetic.rdiv),
    **dict.fromkeys(("neg", "neg_", "negative", "negative_"), arithmetic.neg),
    **dict.fromkeys(("matmul", "mm"), arithmetic.matmul),
    "__rmatmul__": arithmetic.rmatmul,
    "addmm": arithmetic.addmm,
    **dict.fromkeys(("relu", "relu_"), arithmetic.relu),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), arithmetic.leaky_relu),
    **dict.fromkeys(("rrelu", "rrelu_"), arithmetic.rrelu),
    "prelu": arithmetic.prelu,
    "relu6": arithmetic.relu6,
    **dict.fromkeys(("hardtanh", "hardtanh_"), arithmetic.hardtanh),
    "hardsigmoid": arithmetic.hardsigmoid,
    "softshrink": arithmetic.softshrink,
    **dict.fromkeys(("threshold", "threshold_"), arithmetic.threshold),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), arithmetic.clamp),
    **dict.fromkeys(("clamp_min", "clamp_min_"), arithmetic.clamp_min),
    **dict.fromkeys(("clamp_max", "clamp_max_"), arithmetic.clamp_max),
    **dict.fromkeys(("abs", "abs_", "absolute", "absolute_"), arithmetic.absolute),
    **dict.fromkeys(("maximum", "fmax"), arithmetic.maximum),
    **dict.fromkeys(("minimum", "fmin"), arithmetic.minimum),
    # axes
    **dict.fromkeys(("view", "reshape"), shapes.variadic(shapes.reshape)),
    "reshape_as": shapes.reshape_as,
    "flatten": shapes.flatten,
    "unflatten": shapes.unflatten,
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    "expand": shapes.variadic(shapes.expand),
    "repeat": shapes.variadic(shapes.repeat),
    "permute": shapes.variadic(shapes.permute),
    "transpose": shapes.transpose,
    "swapaxes": shapes.swapaxes,
    "swapdims": shapes.transpose,
    "movedim": shapes.move_axes,
    "flip": shapes.variadic(shapes.flip),
    "__getitem__": axes.getitem,
    "index_select": axes.index_select,
    "narrow": axes.narrow,
    "select": axes.select,
    "split": axes.split,
    "chunk": axes.chunk,
    "unbind": axes.unbind,
    **dict.fromkeys(("cat", "concat", "concatenate"), axes.cat),
    "stack": axes.stack,
    "pad": axes.pad,
    "interpolate": axes.interpolate,
    "mean": axes.reduction(mean=True),
    "sum": axes.reduction(mean=False),
    "max": axes.maximum,
    "min": axes.minimum,
    "amax": axes.largest,
    "amin": axes.smallest,
    "pixel_shuffle": axes.pixel_shuffle,
    "pixel_unshuffle": axes.pixel_unshuffle,
}
#: Attributes of tensors that are tensors again.
ATTRIBUTES: dict[str, Handler] = {
    "mT": shapes.matrix_transpose,
    "data": layers.identity,
}
CONTROL_FLOW = (
    "its forward depends on the numbers of its input",
    "remove control flow that depends on them, and do not take them out of their tensor",
)
RANDOM = (
    "it draws random numbers, so that the outputs for one input differ",
    "call model.eval(), or leave it out of forward where self.training is False",
)
#: What is refused with a remedy of its own.
REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("__bool__", "__int__", "__float__", "__index__", "item"), CONTROL_FLOW),
    **dict.fromkeys(("tolist", "numpy", "__array__", "__contains__", "equal"), CONTROL_FLOW),
    **dict.fromkeys(("rand_like", "randn_like", "randint_like", "bernoulli"), RANDOM),
    **dict.fromkeys(("bernoulli_", "normal_", "uniform_", "random_", "poisson"), RANDOM),
    **dict.fromkeys(("multinomial", "normal", "gumbel_softmax", "exponential_"), RANDOM),
    "__setitem__": ("it assigns to some of a tensor's numbers", "join the parts by torch.cat"),
    **dict.fromkeys(
        ("max_pool1d_with_indices", "max_pool2d_with_indices"),
        ("return_indices=True is not modelled", "use return_indices=False"),
    ),
    **dict.fromkeys(
        ("__iter__", "__len__", "numel", "nelement"),
        ("its forward depends on the size of the batch", "treat all samples alike"),
    ),
    **dict.fromkeys(
        ("T", "t"), ("it moves the batch axis", "keep it first: use x.mT or x.transpose(1, 2)")
    ),
    "hardshrink": ("it jumps at the ends of its interval", "use nn.Softshrink"),
}


class Sizes(tuple[Any, ...]):
    """The shape of a tensor: real sizes, and `BATCH` for the number of samples."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if not isinstance(key, slice):
            return found
        return Sizes(found) if mentions_batch(found) else torch.Size(found)

    def numel(self) -> int:
        """The number of entries, which a batch has not."""
        return math.prod(self)


def _size(x: Any, dim: int | None = None) -> Any:
    sizes = Sizes((BATCH, *x.symbol.shape))
    return sizes if dim is None else sizes[dim]


#: What forward may ask of a tensor, answered without a node; given the tensor itself.
ASKED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("shape", "size"), _size),
    **dict.fromkeys(("dim", "ndim", "ndimension"), lambda x: 1 + len(x.symbol.shape)),
    "dtype": lambda x: x.reading.dtype,
    "device": lambda x: x.reading.device,
    "get_device": lambda x: x.reading.device.index if x.reading.device.type != "cpu" else -1,
    "layout": lambda x: torch.strided,
    "is_cuda": lambda x: x.reading.device.type == "cuda",
    **dict.fromkeys(("is_floating_point", "is_contiguous", "is_leaf"), lambda x, **_: True),
    **dict.fromkeys(("is_complex", "is_sparse", "is_quantized", "is_mps"), lambda x: False),
    **dict.fromkeys(("is_nested", "is_meta", "requires_grad", "is_inference"), lambda x: False),
    **dict.fromkeys(("grad", "grad_fn", "names", "_backward_hooks"), lambda x: None),
    "element_size": lambda x: x.reading.dtype.itemsize,
    "__hash__": id,
    "__repr__": lambda x, **_: f"tensor of shape {_size(x)}",
    "__format__": lambda x, _: f"tensor of shape {_size(x)}",
}


def name_of(func: Any) -> str:
    """What a torch function, method, attribute or ATen operator is called."""
    if isinstance(func, torch._ops.OpOverload):
        return str(func._schema.name.removeprefix("aten::"))
    name = str(getattr(func, "__name__", func))
    return str(func.__self__.__name__) if name == "__get__" else name


@cache
def handler_of(func: Any) -> Handler | None:
    """The handler of a torch function; None where there is none."""
    if isinstance(func, torch._ops.OpOverload):
        return _of_operator(func)
    if getattr(func, "__name__", "") == "__get__":
        attribute = name_of(func)
        own = getattr(getattr(Tensor, attribute, None), "__get__", None)
        return ATTRIBUTES.get(attribute) if own == func else None
    return _functions().get(func)


@cache
def _functions() -> dict[Any, Handler]:
    found = {getattr(home, name, None): NAMED[name] for name in NAMED for home in HOMES}
    return {function: handler for function, handler in found.items() if callable(function)}


def _of_operator(func: torch._ops.OpOverload) -> Handler | None:
    """An ATen operator, as exported modules call it."""
    schema = func._schema
    handler = HANDLERS.get(f"{name_of(func)}.{func._overloadname}")
    if handler is None or not schema.name.startswith("aten::"):
        return None
    names = [ARGUMENT_NAMES.get(a.name, a.name) for a in schema.arguments]

    @functools.wraps(handler)
    def by_name(build: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs = {ARGUMENT_NAMES.get(key, key): value for key, value in kwargs.items()}
        return handler(build, **dict(zip(names, args, strict=False)), **kwargs)

    return by_name
