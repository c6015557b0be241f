"""The functions a model may call, translated into nodes.

One handler an operation, with the argument names and defaults of the torch function (and so of the
ATen operator) it stands for; `from_torch` and `from_export` look their targets up here. A handler
gets the builder and, for each tensor, either a `Symbol` (it depends on the input) or a plain tensor
or number (a constant).
"""

from collections.abc import Iterable
from typing import Any

from bounds.network.build.builder import NetworkBuilder
from bounds.read.operations import axes, layers, shapes
from bounds.read.operations.common import Handler, mentions_batch

#: Handlers whose output may be their input's memory seen in another way, so that a change in place
#: of one changes both.
VIEWS = {
    *(layers.convert, layers.convert_to_float, layers.convert_to_double),
    *(
        layers.identity,
        layers.dropout,
        shapes.flatten,
        shapes.unflatten,
        shapes.reshape,
        shapes.reshape_as,
        shapes.squeeze,
    ),
    *(
        shapes.unsqueeze,
        shapes.expand,
        shapes.permute,
        shapes.transpose,
        shapes.swapaxes,
        shapes.move_axes,
        axes.narrow,
    ),
    *(shapes.matrix_transpose, axes.getitem, axes.select, axes.split, axes.chunk, axes.unbind),
    *(axes.aten_slice, axes.aten_index),
}


#: Handlers that take shapes, in which the size of the batch may stand.
SHAPED = {shapes.reshape, shapes.expand, shapes.repeat}


def require_samples_alike(build: NetworkBuilder, handler: Handler, values: Iterable[Any]) -> None:
    """Refuse to compute with the size of the batch, where it is no part of a shape."""
    if getattr(handler, "__wrapped__", handler) not in SHAPED and mentions_batch(values):
        raise build.refuse(
            "it computes with the size of the batch",
            "treat all samples alike",
        )


def is_view(handler: Handler | None) -> bool:
    """Whether this handler, or the one that it wraps, is among `VIEWS`."""
    return getattr(handler, "__wrapped__", handler) in VIEWS
