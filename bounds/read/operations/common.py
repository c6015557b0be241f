"""What the handlers share: the batch that shapes mention, and constants told from symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bounds.errors import UnsupportedLayerError
from bounds.network.build.builder import NetworkBuilder, Symbol

Handler = Callable[..., Any]


def batch_size_used() -> UnsupportedLayerError:
    """The error for it; raise what it returns."""
    return UnsupportedLayerError(
        "its forward computes with the size of the batch: treat all samples alike, and use the "
        "sizes of the other axes alone."
    )


class _Batch(int):
    """Stands for the number of samples wherever a model asks for it.

    torch takes it for a size, of which no tensor could have so many; and it is no number to compute
    with.
    """

    def __repr__(self) -> str:
        return "batch size"

    __str__ = __repr__

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return other is self or self._refuse()

    def __ne__(self, other: object) -> bool:
        return other is not self and self._refuse()

    def _refuse(self, *_: object) -> Any:
        raise batch_size_used()

    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __format__ = __neg__ = __abs__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __pow__ = __rpow__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __divmod__ = __rdivmod__ = __float__ = __int__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __invert__ = __pos__ = _refuse
    __round__ = __trunc__ = __floor__ = __ceil__ = bit_length = bit_count = _refuse


#: What torch sees where it is given for a size: a number that no other size is, and that a loop
#: over the samples comes to the end of.
BATCH_SIZE = 1_000_003
BATCH = _Batch(BATCH_SIZE)


def mentions_batch(values: Iterable[Any]) -> bool:
    """Whether the size of the batch is among these, or in a sequence that is."""
    return any(
        value is BATCH or (isinstance(value, list | tuple) and mentions_batch(value))
        for value in values
    )


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
