"""`bounds supports`: what `bounds verify` takes, in the words of the VNN-LIB standard.

Nothing is reported that is not sound. An operator is there if it may take whatever depends on the
input, its weights being constants: products, quotients, casts and comparisons, which are read where
they are of constants, are not. Isomorphic networks are read as any others; the theory MINET, in
which they may be of types that no proof here covers, is not reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from bounds.errors import BoundsError

_FIXED = {
    "onnx-element-types": ("float32", "float64", "real"),
    "vnnlib-versions": ("1.0", "2.0"),
    "hidden-node-theories": ("NH", "H"),
    "multiple-input-output-theories": ("SIO", "MIO"),
    "multiple-network-theories": ("SNET", "MENET", "MNET"),
    "multiple-node-comparison-theories": ("SNC", "MNC"),
    "arithmetic-complexity-theories": ("BND", "OUTC", "LIN"),
    "optimised-disjunctive-reasoning": ("false",),
    "serialise-assignments": ("true",),
}


def run(options: argparse.Namespace) -> int:
    if options.asked in _FIXED:
        lines = [*_FIXED[options.asked]]
    else:
        try:
            lines = _OF_ONNX[options.asked]()
        except ImportError as error:
            raise BoundsError(
                "the package onnx is not installed: pip install 'relu-bounds[onnx]'."
            ) from error
    print("\n".join(lines))
    return 0


def _operators() -> list[str]:
    from bounds.read.onnx.operators import HANDLERS, LIMITED

    return sorted(HANDLERS.keys() - LIMITED)


def _opsets() -> list[str]:
    from bounds.read.onnx.file import opsets

    return [str(opsets()[0]), str(opsets()[-1])]


_OF_ONNX: dict[str, Callable[[], list[str]]] = {
    "onnx-operators": _operators,
    "onnx-opset-versions": _opsets,
}
