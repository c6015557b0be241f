"""`bounds report`: a page about what `bounds evaluate` found."""

from __future__ import annotations

import argparse

from bounds.cli.problem import require_writable
from bounds.evaluation.report import report


def run(options: argparse.Namespace) -> int:
    require_writable(options.output)
    report(options.results, options.output)
    return 0
