"""The errors that `bounds` raises on purpose: one sentence each, with the remedy."""

from __future__ import annotations


class BoundsError(Exception):
    """Base of every error that this package raises on purpose.

    >>> import torch, bounds
    >>> try:
    ...     bounds.from_torch(torch.nn.Tanh(), (2,))
    ... except bounds.BoundsError as error:
    ...     print(type(error).__name__)
    UnsupportedLayerError
    """


class InvalidInputError(BoundsError, ValueError):
    """An argument that cannot be used: its shape, its type, its range, or a NaN in it.

    >>> import bounds
    >>> bounds.margins(3, classes=2)
    Traceback (most recent call last):
    bounds.errors.InvalidInputError: margins(label) has 3, expected 0 … 1 for 2 classes.
    """


class UnsupportedLayerError(BoundsError):
    """A layer, or an attribute of one, that is not modelled. None is ever approximated.

    >>> import torch, bounds
    >>> bounds.from_torch(torch.nn.Sigmoid(), (2,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    bounds.errors.UnsupportedLayerError: ...igmoid...
    """


class ModelFileError(BoundsError):
    """A model file that is missing, damaged, not a model, or readable by unpickling only.

    >>> import bounds
    >>> bounds.load("nowhere.onnx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    bounds.errors.ModelFileError: ...nowhere.onnx...
    """
