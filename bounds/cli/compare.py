"""`bounds compare`: fixed slope, exact and cvxpy side by side."""

from __future__ import annotations

import argparse

from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, load_problem, require_writable
from bounds.compare.compare import Comparison, compare
from bounds.compare.report import print_report, save_plot
from bounds.files import require_plot


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.plot)
    if options.plot is not None:
        require_plot("--plot", options.plot)
    console = console_for()
    network = load_model(options)
    ball, specification = load_problem(options, network)
    with console.status("relaxing, then solving every LP three ways"):
        comparison = compare(options.model, network, ball, specification)
    print_report(comparison, console)
    _write(options, comparison)
    return 0 if all(comparison.agrees(record) for record in comparison.rows()) else 1


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    if options.json is not None:
        write_json(options.json, comparison.to_json())
    if options.plot is not None:
        save_plot(comparison, options.plot)
