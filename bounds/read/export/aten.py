"""The nodes of a torch.export graph: how they are written down, and what each ATen operator means.

Operators go by name and overload, arguments by the names of the operator's schema, which
`ARGUMENT_NAMES` makes those of the torch functions.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from bounds.read.export.archive import short
from bounds.read.operations import arithmetic, axes, layers, shapes
from bounds.read.operations.common import Handler

Json = dict[str, Any]

HANDLERS: dict[str, Handler] = {
    # layers
    **dict.fromkeys(("dropout.default", "dropout_.default"), layers.dropout),
    **dict.fromkeys(("feature_dropout.default", "feature_dropout_.default"), layers.dropout),
    "linear.default": layers.linear,
    **dict.fromkeys(("conv1d.default", "conv1d.padding"), layers.convolution),
    **dict.fromkeys(("conv2d.default", "conv2d.padding"), layers.convolution),
    "conv_transpose1d.default": layers.convolution_transpose,
    "conv_transpose2d.input": layers.convolution_transpose,
    "batch_norm.default": layers.aten_batch_norm,
    "max_pool1d.default": layers.max_pool(1),
    "max_pool2d.default": layers.max_pool(2),
    "avg_pool1d.default": layers.average_pool(1),
    "avg_pool2d.default": layers.average_pool(2),
    "adaptive_avg_pool1d.default": layers.adaptive_average_pool(1),
    "adaptive_avg_pool2d.default": layers.adaptive_average_pool(2),
    **dict.fromkeys(("contiguous.default", "clone.default", "alias.default"), layers.identity),
    **dict.fromkeys(("detach.default", "detach_.default"), layers.identity),
    **dict.fromkeys(("to.dtype", "to.device", "to.dtype_layout", "to.other"), layers.convert),
    **dict.fromkeys(("_to_copy.default", "type_as.default"), layers.convert),
    **dict.fromkeys(("softmax.int", "_softmax.default"), layers.softmax(log=False)),
    **dict.fromkeys(("log_softmax.int", "_log_softmax.default"), layers.softmax(log=True)),
    "convolution.default": layers.aten_convolution,
    "_native_batch_norm_legit_no_training.default": layers.aten_batch_norm_no_training,
    "max_pool2d_with_indices.default": layers.aten_max_pool,
    "_adaptive_avg_pool2d.default": layers.adaptive_average_pool(2),
    # arithmetic
    **dict.fromkeys(("add.Tensor", "add.Scalar", "add_.Tensor", "add_.Scalar"), arithmetic.add),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar", "sub_.Tensor", "sub_.Scalar"), arithmetic.sub),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar", "mul_.Tensor", "mul_.Scalar"), arithmetic.mul),
    **dict.fromkeys(("div.Tensor", "div.Scalar", "div_.Tensor", "div_.Scalar"), arithmetic.div),
    **dict.fromkeys(("rsub.Tensor", "rsub.Scalar"), arithmetic.rsub),
    **dict.fromkeys(("neg.default", "neg_.default"), arithmetic.neg),
    **dict.fromkeys(("matmul.default", "mm.default", "mv.default"), arithmetic.matmul),
    "addmm.default": arithmetic.addmm,
    "hardsigmoid.default": arithmetic.hardsigmoid,
    "softshrink.default": arithmetic.softshrink,
    **dict.fromkeys(("threshold.default", "threshold_.default"), arithmetic.threshold),
    **dict.fromkeys(("relu.default", "relu_.default"), arithmetic.relu),
    **dict.fromkeys(("leaky_relu.default", "leaky_relu_.default"), arithmetic.leaky_relu),
    "prelu.default": arithmetic.prelu,
    **dict.fromkeys(("relu6.default", "relu6_.default"), arithmetic.relu6),
    **dict.fromkeys(("hardtanh.default", "hardtanh_.default"), arithmetic.hardtanh),
    **dict.fromkeys(("clamp.default", "clamp_.default", "clamp.Tensor"), arithmetic.clamp),
    **dict.fromkeys(("clip.default", "clip_.default", "clip.Tensor"), arithmetic.clamp),
    **dict.fromkeys(("clamp_min.default", "clamp_min_.default"), arithmetic.clamp_min),
    **dict.fromkeys(("clamp_max.default", "clamp_max_.default"), arithmetic.clamp_max),
    **dict.fromkeys(("abs.default", "abs_.default"), arithmetic.absolute),
    **dict.fromkeys(("maximum.default", "max.other", "fmax.default"), arithmetic.maximum),
    **dict.fromkeys(("minimum.default", "min.other", "fmin.default"), arithmetic.minimum),
    "max.dim": axes.maximum,
    "min.dim": axes.minimum,
    "amax.default": axes.largest,
    "amin.default": axes.smallest,
    "pixel_shuffle.default": axes.pixel_shuffle,
    "pixel_unshuffle.default": axes.pixel_unshuffle,
    # axes
    "sym_size.int": shapes.size,
    "flatten.using_ints": shapes.flatten,
    "unflatten.int": shapes.unflatten,
    **dict.fromkeys(("view.default", "reshape.default", "_unsafe_view.default"), shapes.reshape),
    **dict.fromkeys(("squeeze.default", "squeeze.dim", "squeeze.dims"), shapes.squeeze),
    "unsqueeze.default": shapes.unsqueeze,
    "expand.default": shapes.expand,
    "repeat.default": shapes.repeat,
    "permute.default": shapes.permute,
    "transpose.int": shapes.transpose,
    "swapaxes.default": shapes.swapaxes,
    "mT.default": shapes.matrix_transpose,
    "flip.default": shapes.flip,
    "slice.Tensor": axes.aten_slice,
    "index.Tensor": axes.aten_index,
    "index_select.default": axes.index_select,
    "narrow.default": axes.narrow,
    "select.int": axes.select,
    "split.Tensor": axes.split,
    "split_with_sizes.default": axes.split,
    "chunk.default": axes.chunk,
    "unbind.int": axes.unbind,
    "cat.default": axes.cat,
    "stack.default": axes.stack,
    "pad.default": axes.pad,
    **dict.fromkeys(("upsample_nearest1d.vec", "upsample_nearest2d.vec"), axes.aten_upsample),
    "mean.dim": axes.reduction(mean=True),
    "sum.dim_IntList": axes.reduction(mean=False),
}
#: What parameters and constants may go through before they meet the input, by torch's own
#: operators; none is in place.
CONSTANT = {
    *("view", "reshape", "lift_fresh_copy", "clone", "alias", "detach", "unsqueeze", "t"),
    *("permute", "expand", "repeat", "numpy_T", "mT", "neg", "exp", "log", "sqrt", "rsqrt"),
    *("reciprocal", "abs", "sigmoid", "tanh", "relu", "square", "clamp", "sum", "mean", "amax"),
    *("amin", "linalg_vector_norm", "norm_except_dim", "_weight_norm", "_weight_norm_interface"),
    *(
        "matmul",
        "mm",
        "mv",
        "maximum",
        "minimum",
        "cat",
        "stack",
        "zeros",
        "ones",
        "full",
        "arange",
    ),
}
CONSTANTS = {
    *(f"{name}.default" for name in CONSTANT),
    *("detach_.default", "to.dtype", "_to_copy.default", "flatten.using_ints", "squeeze.dim"),
    *("squeeze.dims", "transpose.int", "select.int", "slice.Tensor", "add.Tensor", "sub.Tensor"),
    *("mul.Tensor", "div.Tensor", "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar"),
    *("rsub.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "sum.dim_IntList", "mean.dim"),
    *("arange.start", "arange.start_step"),
}
#: Where and how numbers are stored, which does not change them.
STORAGE = {"device", "layout", "pin_memory", "memory_format"}
#: Checks that torch.export writes down; what they assert of dtypes is compared anyway.
SKIPPED = {"_assert_tensor_metadata.default"}
#: Targets that look at a tensor's shape, not at its numbers.
SHAPE_ONLY = {"sym_size.int", *SKIPPED}
#: Schema names that differ from those of the torch functions.
ARGUMENT_NAMES = {
    "self": "input",
    "size": "shape",
    "mat2": "other",
    "split_size": "split_size_or_sections",
    "split_sizes": "split_size_or_sections",
}


def operator(target: str) -> Any:
    """torch's own operator of this name, of which a reader calls those in its tables alone."""
    name, _, overload = target.partition(".")
    return getattr(getattr(torch.ops.aten, name, None), overload, None)


def is_random(target: str) -> bool:
    """Whether torch counts an operator among those that draw numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(operator(target), "tags", ())


def target_name(node: Json) -> str:
    """The operator's name and overload, such as "conv2d.default"."""
    target = node["target"]
    if not re.fullmatch(r"[\w.:<>]{1,200}", target):
        raise ValueError(f"an operator is called {short(target)}")
    return target.removeprefix("torch.ops.aten.")


def tensor_names(argument: Json) -> list[str]:
    """The tensors that an argument or an output names; those of an index are constants."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_tensor":
            return [value["name"]]
        case "as_tensors":
            return [tensor["name"] for tensor in value]
        case "as_optional_tensor":
            return tensor_names(value)
    return []


def layer_name(node: Json) -> str:
    """The layer's path in the model, with the node's own name where a function computes it."""
    innermost = node.get("metadata", {}).get("nn_module_stack", "").split(";")[-1]
    _, path, kind = (*innermost.split(",", 2), "", "", "")[:3]
    if not path or not kind.startswith("torch.nn.modules."):
        path = f"{path}.{node['name']}" if path else node["name"]
    return path[:200]
