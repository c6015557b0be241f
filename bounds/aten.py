"""The nodes of a torch.export graph: how they are written down, and what each ATen operator means.

Operators go by name and overload, arguments by the names of the operator's schema, which
`ARGUMENT_NAMES` makes those of the torch functions.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from bounds import operations as ops
from bounds.builder import NetworkBuilder, Symbol
from bounds.export_archive import short

Json = dict[str, Any]


def _reshape(build: NetworkBuilder, input: Symbol, shape: list[Any]) -> Symbol:
    return ops.reshape(build, input, shape)


#: Handlers whose output is their input's memory seen in another way, so that a change in place of
#: one changes both.
VIEWS = (_reshape, ops.flatten, ops.identity, ops.dropout)
HANDLERS: dict[str, ops.Handler] = {
    **dict.fromkeys(("relu.default", "relu_.default"), ops.relu),
    **dict.fromkeys(("dropout.default", "dropout_.default"), ops.dropout),
    **dict.fromkeys(("feature_dropout.default", "feature_dropout_.default"), ops.dropout),
    **dict.fromkeys(("linear.default",), ops.linear),
    **dict.fromkeys(("conv1d.default", "conv1d.padding"), ops.convolution),
    **dict.fromkeys(("conv2d.default", "conv2d.padding"), ops.convolution),
    **dict.fromkeys(("batch_norm.default",), ops.aten_batch_norm),
    **dict.fromkeys(("avg_pool2d.default",), ops.average_pool),
    **dict.fromkeys(("flatten.using_ints",), ops.flatten),
    **dict.fromkeys(("view.default", "reshape.default"), _reshape),
    **dict.fromkeys(("add.Tensor", "add.Scalar", "add_.Tensor", "add_.Scalar"), ops.add),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar", "sub_.Tensor", "sub_.Scalar"), ops.sub),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar", "mul_.Tensor", "mul_.Scalar"), ops.mul),
    **dict.fromkeys(("div.Tensor", "div.Scalar", "div_.Tensor", "div_.Scalar"), ops.div),
    **dict.fromkeys(("rsub.Tensor", "rsub.Scalar"), ops.rsub),
    **dict.fromkeys(("neg.default", "neg_.default"), ops.neg),
    **dict.fromkeys(("contiguous.default", "clone.default", "alias.default"), ops.identity),
    **dict.fromkeys(("detach.default", "detach_.default", "to.dtype"), ops.identity),
    "sym_size.int": ops.size,
}
#: What parameters and constants may go through before they meet the input; none is in place.
CONSTANT_FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("view.default", "reshape.default"), torch.reshape),
    **dict.fromkeys(("lift_fresh_copy.default", "clone.default"), torch.clone),
    **dict.fromkeys(("detach.default", "detach_.default"), torch.detach),
    "to.dtype": lambda input, dtype, **_: input.to(dtype),
    "flatten.using_ints": torch.flatten,
    "unsqueeze.default": torch.unsqueeze,
    "t.default": torch.t,
    "transpose.int": torch.transpose,
    "permute.default": torch.permute,
    "add.Tensor": torch.add,
    "sub.Tensor": torch.sub,
    "mul.Tensor": torch.mul,
    "div.Tensor": torch.div,
    "neg.default": torch.neg,
}
#: Checks that torch.export writes down; what they assert of dtypes is compared anyway.
SKIPPED = {"_assert_tensor_metadata.default"}
#: Targets that look at a tensor's shape, not at its numbers.
SHAPE_ONLY = {"sym_size.int", *SKIPPED}
#: Schema names that differ from those of the torch functions.
ARGUMENT_NAMES = {"self": "input", "size": "shape"}


def target_name(node: Json) -> str:
    """The operator's name and overload, such as "conv2d.default"."""
    target = node["target"]
    if not re.fullmatch(r"[\w.:<>]{1,200}", target):
        raise ValueError(f"an operator is called {short(target)}")
    return target.removeprefix("torch.ops.aten.")


def tensor_names(argument: Json) -> list[str]:
    """The tensor that an argument names, if it does; arguments of several tensors are refused."""
    tensor = argument.get("as_optional_tensor", argument).get("as_tensor")
    return [] if tensor is None else [tensor["name"]]


def layer_name(node: Json) -> str:
    """The layer's path in the model, with the node's own name where a function computes it."""
    innermost = node.get("metadata", {}).get("nn_module_stack", "").split(";")[-1]
    _, path, kind = (*innermost.split(",", 2), "", "", "")[:3]
    if not path or not kind.startswith("torch.nn.modules."):
        path = f"{path}.{node['name']}" if path else node["name"]
    return path[:200]
