"""What a long evaluation has found so far, in a file, so that it goes on where it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bounds import InvalidInputError
from examples.image_data import load_file


class Kept:
    """Results by name, as tensors and plain containers; in memory alone where path is None.

    about: what they depend on. Raises InvalidInputError for a file of other questions.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self._path, self._about = path, about
        self._parts: dict[str, Any] = {}
        if path is not None and path.is_file():
            content = load_file(path)
            if not isinstance(content, dict) or content.get("about") != about:
                raise InvalidInputError(
                    f"{str(path)!r} holds the beginning of another evaluation: finish that with "
                    "its own options, give another --json, or remove the file."
                )
            self._parts = content["parts"]

    def part(self, name: str, find: Callable[[], Any]) -> Any:
        """What is kept by this name, or else is found now, and then kept."""
        if name not in self._parts:
            self._parts[name] = find()
            if self._path is not None:
                whole = self._path.with_name(f"{self._path.name}.part")
                torch.save({"about": self._about, "parts": self._parts}, whole)
                os.replace(whole, self._path)
        return self._parts[name]

    def finished(self) -> None:
        """Remove the file: what it led to is written elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
