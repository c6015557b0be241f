"""Batch normalisation while a network is trained on bounds: the statistics of clean inputs.

A bound needs a function of one input. So a layer in training mode takes mean and variance from the
clean batch, once, and the same for the attacked inputs and the boxes (CTBench, Mao et al. 2025,
arXiv 2406.04848); gradients flow through both. In eval mode it has its stored ones, as always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bounds.read.torch.private import innermost


@contextmanager
def clean_statistics(model: object, x: Tensor) -> Iterator[None]:
    """Inside, layers of batch normalisation that are in training mode are in eval mode, with the
    statistics of the batch x; their stored ones move as in a call of the model with x.

    Without such a layer nothing is done.
    """
    inner = innermost(model) if isinstance(model, nn.Module) else nn.Identity()
    layers = [m for m in inner.modules() if isinstance(m, _BatchNorm) and m.training]
    if not layers:
        yield
        return
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        [values] = inputs
        axes = [axis for axis in range(values.dim()) if axis != 1]
        found[layer] = values.mean(axes), values.var(axes, unbiased=False)

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        inner(x)  # what is compiled may not know of the hooks
    finally:
        for hook in hooks:
            hook.remove()
    stored = {layer: (layer.running_mean, layer.running_var) for layer in layers}
    try:
        for layer in layers:
            if layer in found:
                _install(layer, *found[layer])
                layer.training = False
        yield
    finally:
        for layer in layers:
            _install(layer, *stored[layer])
            layer.training = True


def _install(layer: nn.Module, mean: Tensor | None, variance: Tensor | None) -> None:
    # Past nn.Module's own setter, which torch.compile guards.
    layer._buffers["running_mean"], layer._buffers["running_var"] = mean, variance
