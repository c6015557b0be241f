"""Bounds as other tools claim them: by what they are about, in memory and in files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from bounds.analysis.claims_file import read_claim_arrays, write_claim_arrays
from bounds.arguments import require_type, shown
from bounds.errors import InvalidInputError
from bounds.relaxation.specification import Specification

#: What claims may be about, besides ReLU inputs by the name of their node.
OUTPUT, ROWS = "output", "rows"
#: Lower ends and upper ends.
Ends: TypeAlias = tuple[Tensor, Tensor]
#: What claims nothing, where an end is missing.
NOTHING = {"lower": -math.inf, "upper": math.inf}


@dataclass(frozen=True, eq=False)
class Claims:
    """Lower and upper ends, each (batch, *shape), or (*shape) for one input; a lower end of −∞ and
    an upper one of +∞ claim nothing.

    ends: by "output"; the name of a ReLU's node, for its inputs; or "rows", (batch, rows). rows:
    what the last are about, ⟨C, net(x)⟩ + d.

    Raises InvalidInputError for what is no mapping, or no Specification.

    >>> import torch, bounds
    >>> margin = bounds.margins(0, classes=2)
    >>> claims = Claims({"rows": (torch.tensor([0.5]), torch.tensor([torch.inf]))}, rows=margin)
    >>> net = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[2.0, 0.0]], dtype=torch.float64), radius=0.5)
    >>> [lower, upper] = bounds.audit(net, ball, claims).ends["rows"]
    >>> lower.count("proved"), round(lower.ours.item(), 6)
    (1, 1.0)
    """

    ends: Mapping[str, Ends]
    rows: Specification | None = None

    def __post_init__(self) -> None:
        require_type("Claims", self.ends, Mapping, "give pairs of ends by name")
        if self.rows is not None:
            remedy = "make one with bounds.Specification(C, d)"
            require_type("Claims(rows)", self.rows, Specification, remedy)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to an .npz file that `load` and `bounds audit --claims` read
        (`bounds.analysis.claims_file` documents it).

        Raises InvalidInputError for ends that are no tensors, or a path that cannot be written.
        """
        arrays = {}
        for name, both in self.ends.items():
            if len(both) != 2 or not all(isinstance(end, Tensor) for end in both):
                raise InvalidInputError(
                    f"Claims.save() got ends of {name!r} that are {shown(both)}, expected a pair "
                    "of tensors: lower ends and upper ends."
                )
            for end, numbers in zip(NOTHING, both, strict=True):
                arrays[f"{name}.{end}"] = _array(numbers)
        if self.rows is not None:
            arrays[f"{ROWS}.C"] = _array(self.rows.C)
            if self.rows.d is not None:
                arrays[f"{ROWS}.d"] = _array(self.rows.d)
        write_claim_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Claims:
        """Read an .npz or .json file of claims; nothing in it is executed. An end that is missing
        claims nothing.

        Raises InvalidInputError for a file that is missing, damaged, or has no such numbers.
        """
        read = read_claim_arrays(path)
        arrays = {key: torch.from_numpy(array) for key, array in read.items()}
        C, d = arrays.pop(f"{ROWS}.C", None), arrays.pop(f"{ROWS}.d", None)
        if C is None and d is not None:
            raise InvalidInputError(
                f"{os.fspath(path)!r} has {ROWS}.d and no {ROWS}.C: give the coefficients of the "
                "rows, too."
            )
        found: dict[str, dict[str, Tensor]] = {}
        for key, numbers in arrays.items():
            name, _, end = key.rpartition(".")
            if not name or end not in NOTHING:
                raise InvalidInputError(
                    f"{os.fspath(path)!r} has numbers by {key!r}, expected NAME.lower and "
                    f"NAME.upper, where NAME is {OUTPUT}, {ROWS} or a ReLU's: rename them."
                )
            found.setdefault(name, {})[end] = numbers
        if not found:
            raise InvalidInputError(
                f"{os.fspath(path)!r} has no claims, expected NAME.lower and NAME.upper: write it "
                "with bounds.Claims(ends).save(path)."
            )
        ends = {name: _both(by_end) for name, by_end in found.items()}
        return cls(ends, None if C is None else Specification(C, d))


def _both(by_end: Mapping[str, Tensor]) -> Ends:
    """Lower ends and upper ends, of which one may be missing."""
    like = next(iter(by_end.values()))
    lower, upper = (
        by_end.get(end, torch.full_like(like, nothing)) for end, nothing in NOTHING.items()
    )
    return lower, upper


def _array(numbers: Tensor) -> np.ndarray:
    """In float64, or in a narrower dtype that NumPy has."""
    numbers = numbers.detach().cpu()
    return (numbers.float() if numbers.dtype == torch.bfloat16 else numbers).numpy()
