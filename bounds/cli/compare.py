"""`bounds compare`: fixed slope, exact and cvxpy side by side."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from rich.console import Console

from bounds.cli.problem import (
    add_problem,
    device_and_dtype,
    load_ball,
    load_model,
    read_property,
    require_writable,
)
from bounds.compare.compare import Comparison, compare
from bounds.compare.report import print_report, require_plot, save_plot
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.relaxation.specification import Specification, margins
from bounds.sets.ball import Ball
from bounds.sets.box import Box


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compare",
        help="fixed slope, exact and cvxpy side by side",
        description="Bound every margin of a network over a ball, or every row of a VNN-LIB file, "
        "by the fixed slope, by the exact dual and by cvxpy, and check that the exact dual equals "
        "the LP optimum.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_run)
    add_problem(command)
    command.add_argument("--plot", metavar="FILE", help="draw them into this file (png, svg, pdf)")


def _run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.plot)
    if options.plot is not None:
        require_plot(options.plot)
    console = Console()
    network = load_model(options)
    ball, specification = _problem(options, network)
    with console.status("relaxing, then solving every LP three ways"):
        comparison = compare(options.model, network, ball, specification)
    print_report(comparison, console)
    _write(options, comparison)
    return 0 if all(comparison.agrees(record) for record in comparison.rows()) else 1


def _problem(options: argparse.Namespace, network: Network) -> tuple[Ball | Box, Specification]:
    if options.vnnlib is None:
        ball, labels = load_ball(options, network)
        return ball, margins(labels, math.prod(network.output_shape))
    property = read_property(options)
    property.require_fit(network.input_shape, network.output_shape)
    if len(property.alike(len(property.cases))) > 1:
        raise InvalidInputError(
            f"VNN-LIB {property.name!r} has cases with unsafe conditions of their own: compare "
            "takes the same rows for all, use bounds certify."
        )
    device, dtype = device_and_dtype(options)
    return (
        property.box(property.cases, network.input_shape, dtype).convert(
            lambda end: end.to(device)
        ),
        property.specification(property.cases[0].disjuncts, grown=True, dtype=dtype),
    )


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    if options.json is not None:
        Path(options.json).write_text(json.dumps(comparison.to_json(), indent=1) + "\n")
    if options.plot is not None:
        save_plot(comparison, options.plot)
