"""The proofs of an evaluation: a folder with a file for every part of it that was proved.

A worker, on whatever machine, writes to a folder of its own, whose files travel with its results.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.files import write_file
from bounds.relaxation.relaxation import Relaxation
from bounds.search.proof import CaseProof, Leaf, Proof
from bounds.search.visible import reserve
from bounds.solution.solution import Solution
from bounds.solution.verdict import trusted

#: A file's name and content.
ProofBytes = tuple[str, bytes]


@dataclass(frozen=True)
class ProofFolder:
    """path: of the folder, which is there."""

    path: str

    def file(self, images: Sequence[int], radius: Fraction) -> Path:
        """Of these images at a radius."""
        first, last = images[0], images[-1]
        name = f"{first:06d}" if first == last else f"{first:06d}-{last:06d}"
        return Path(self.path) / f"{name}-radius-{str(radius).replace('/', '_')}.safetensors"

    def keep(
        self, relaxation: Relaxation, solution: Solution, images: Sequence[int], radius: Fraction
    ) -> Tensor:
        """Write what one pass proves, and is seen to prove in other arithmetic too: which of the
        images that is, (images,)."""
        proved = solution.verified & (trusted(solution) > reserve(relaxation)).all(1)
        numbers = proved.nonzero().flatten().tolist()
        proof, rows = Proof(), range(relaxation.C.shape[1])
        for k in numbers:
            one = relaxation.take(torch.tensor([k]), torch.tensor(rows))
            leaves = [Leaf("adaptive", 0)] * len(rows)
            proof.add(images[k], CaseProof(one, [[row] for row in rows], leaves))
        if proof:
            path = self.file([images[k] for k in numbers], radius)
            proof.save(path, relaxation.network, of="inputs")
        return proved

    def add(self, files: Iterable[ProofBytes]) -> None:
        for name, content in files:
            write_file(Path(self.path) / name, content)

    def content(self) -> tuple[ProofBytes, ...]:
        return tuple((path.name, path.read_bytes()) for path in sorted(Path(self.path).iterdir()))


@contextmanager
def own_folder() -> Iterator[ProofFolder]:
    """One that is gone afterwards."""
    with TemporaryDirectory() as path:
        yield ProofFolder(path)


def proof_folder(call: str, path: object, norm: float) -> ProofFolder:
    """The folder of this path, made if it is missing.

    Raises InvalidInputError for a folder that cannot be made, and for a norm that proofs do not
    take.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InvalidInputError(f"{call}(proofs) got {path!r}, expected the path of a folder.")
    if norm != float("inf"):
        raise InvalidInputError(
            f"{call}(proofs) got norm={norm:g}, and proofs are about boxes: use norm=inf, or leave "
            "it out."
        )
    try:
        Path(path).mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{call}(proofs) cannot make the folder {os.fsdecode(path)!r} ({error}): choose one in "
            "a folder that is there."
        ) from error
    return ProofFolder(os.fsdecode(path))
