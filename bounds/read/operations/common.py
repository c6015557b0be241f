"""What the handlers share: the batch that shapes mention, and constants told from symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bounds.errors import UnsupportedLayerError
from bounds.network.build.builder import NetworkBuilder, Symbol

Handler = Callable[..., Any]


class _Batch:
    """Stands for the number of samples wherever a model asks for it."""

    def __repr__(self) -> str:
        return "batch size"


BATCH = _Batch()


def symbol(build: NetworkBuilder, value: Any, role: str) -> Symbol:
    """An argument that has to depend on the input."""
    if not isinstance(value, Symbol):
        raise build.refuse(f"its {role} is a constant", "compute constants before the network")
    return value


def constant(build: NetworkBuilder, value: Any, role: str) -> Any:
    """An argument that must not depend on the input."""
    if isinstance(value, Symbol):
        raise build.refuse(
            f"its {role} depends on the input, so it is not affine", "use constant parameters"
        )
    return value


def sample_axis(build: NetworkBuilder, x: Symbol, dim: int, *, new: int = 0) -> int:
    """The sample's axis that torch calls `dim`, where a `new` one may be added to them."""
    rank = len(x.shape) + 1 + new
    if not isinstance(dim, int) or not -rank <= dim < rank:
        raise build.misfit(x, f"an axis {dim}, the batch axis counted")
    if dim % rank == 0:
        raise build.refuse("it works along the batch axis", "keep one row a sample")
    return dim % rank - 1


def sample_axes(build: NetworkBuilder, x: Symbol, dims: int | Sequence[int]) -> list[int]:
    """The sample's axes that torch calls `dims`."""
    return [sample_axis(build, x, dim) for dim in ([dims] if isinstance(dims, int) else dims)]


def unsupported(build: NetworkBuilder, what: str) -> UnsupportedLayerError:
    """The refusal of an operation that has no handler."""
    return build.refuse(
        f"{what} is not modelled",
        "rewrite it with dense, convolution, batch normalisation, pooling and piecewise linear "
        "layers, sums and constant factors",
    )
