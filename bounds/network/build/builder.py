"""Builds a `Network` node by node, checking each layer's shapes and attributes.

Every reader (torch, torch.export, ONNX) translates its own operations into these calls, so that a
layer is checked, folded or refused in one place whatever file it came from.
"""

from __future__ import annotations

from bounds.network.build.base import Constant, Padding, Sizes, Symbol
from bounds.network.build.pools import Pools

__all__ = ["Constant", "NetworkBuilder", "Padding", "Sizes", "Symbol"]


class NetworkBuilder(Pools):
    """Starts with `input`, adds a layer a call, and ends with `finish(output)`.

    Each family of layers stands on those that its layers are made of: `LayerBuilder` (the nodes),
    `Rearrangements`, `Elementwise`, `Weights`, `Pools`.
    """
