"""The functions a model may call, translated into nodes.

One handler an operation, with the argument names and defaults of the torch function (and so of the
ATen operator) it stands for; `from_torch` and `from_export` look their targets up here. A handler
gets the builder and, for each tensor, either a `Symbol` (it depends on the input) or a plain tensor
or number (a constant).
"""

from bounds.read.operations import axes, layers, shapes
from bounds.read.operations.common import Handler

#: Handlers whose output may be their input's memory seen in another way, so that a change in place
#: of one changes both.
VIEWS = {
    *(
        layers.identity,
        layers.dropout,
        shapes.flatten,
        shapes.unflatten,
        shapes.reshape,
        shapes.squeeze,
    ),
    *(
        shapes.unsqueeze,
        shapes.expand,
        shapes.permute,
        shapes.transpose,
        shapes.swapaxes,
        axes.narrow,
    ),
    *(shapes.matrix_transpose, axes.getitem, axes.select, axes.split, axes.chunk, axes.unbind),
    *(axes.aten_slice, axes.aten_index),
}


def is_view(handler: Handler | None) -> bool:
    """Whether this handler, or the one that it wraps, is among `VIEWS`."""
    return getattr(handler, "__wrapped__", handler) in VIEWS
