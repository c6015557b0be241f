"""What a certification is asked, in words and digests: what its journal is about."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np
from torch import Tensor

from bounds.solution.certificate_file import json_bytes


def digest_of(*asked: object) -> str:
    """SHA-256 of sets, rows and properties: of their tensors in float64, and of all else as it is
    written."""
    digest = hashlib.sha256()
    for value in asked:
        _update(digest, value)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, value: object) -> None:
    if isinstance(value, Tensor):
        numbers = np.ascontiguousarray(value.detach().cpu().double().numpy(), dtype="<f8")
        digest.update(json_bytes(list(numbers.shape)) + numbers.tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(json_bytes(type(value).__name__))
        for field in fields(value):
            _update(digest, getattr(value, field.name))
    else:
        digest.update(json_bytes(repr(value)))
