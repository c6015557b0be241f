"""The errors that `bounds` raises on purpose: one sentence each, with the remedy."""

from __future__ import annotations


class BoundsError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidInputError(BoundsError, ValueError):
    """An argument that cannot be used: its shape, its type, its range, or a NaN in it."""


class UnsupportedLayerError(BoundsError):
    """A layer, or an attribute of one, that is not modelled. None is ever approximated."""


class ModelFileError(BoundsError):
    """A model file that is missing, damaged, not a model, or readable by unpickling only."""
