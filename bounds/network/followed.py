"""Whether somebody else looks at what torch computes: then it is left to torch's own operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter


def followed(x: Tensor) -> bool:
    """Whether torch.compile, torch.func or a tensor of another class, such as torch's fake ones,
    follows what is computed: they know nothing of what is done otherwise."""
    return (
        type(x) not in (Tensor, Parameter)
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
