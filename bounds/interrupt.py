"""Ctrl-C in a call of many inputs: what is finished is kept, and handed over by what is raised.

The first Ctrl-C lets the deadlines of the call pass (`bounds.deadline`), so that it ends as it does
where its time is up; the second one ends it at once. A program that handles SIGINT itself keeps its
handler, and threads other than the main one get no signals.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a call of many inputs.

    partial: what the call, which the message names, would have returned had its time been up: what
    was finished, and of the rest what it says of inputs that it did not get to. Nothing counts as
    proved that was not.

    >>> import bounds
    >>> error = bounds.Interrupted("solve", None)
    >>> isinstance(error, KeyboardInterrupt), str(error)
    (True, 'solve was interrupted: what was finished is in .partial')
    """

    def __init__(self, call: str, partial: Any) -> None:
        super().__init__(f"{call} was interrupted: what was finished is in .partial")
        self.partial = partial


class _Handler:
    """Of SIGINT. came: whether it has."""

    came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            signal.default_int_handler(number, frame)
        self.came = True


@dataclass
class Kept:
    """partial: what a call that is interrupted hands over."""

    partial: Any = None


_PRESENT: ContextVar[_Handler | None] = ContextVar("present", default=None)


def interrupted() -> bool:
    """Whether Ctrl-C has come during the present call."""
    handler = _PRESENT.get()
    return handler is not None and handler.came


@contextmanager
def interruptible(call: str) -> Iterator[Kept]:
    """A call that ends on its own after Ctrl-C. Of calls within each other, the outermost one is.

    Raises Interrupted at its end where Ctrl-C came.
    """
    kept = Kept()
    mine = threading.current_thread() is threading.main_thread() and _PRESENT.get() is None
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield kept
        return
    handler = _Handler()
    token = _PRESENT.set(handler)
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield kept
    except Exception as error:
        if handler.came:  # or a caller who goes on after errors would go on after Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
        _PRESENT.reset(token)
    if handler.came:
        raise Interrupted(call, kept.partial)
