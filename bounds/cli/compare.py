"""`bounds compare`: fixed slope, exact and cvxpy side by side."""

from __future__ import annotations

import argparse

from bounds.cli.output import console_for, write_json
from bounds.cli.problem import (
    device_and_dtype,
    load_ball,
    load_model,
    load_rows,
    read_property,
    require_writable,
)
from bounds.compare.compare import Comparison, compare
from bounds.compare.report import print_report, require_plot, save_plot
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.plot)
    if options.plot is not None:
        require_plot(options.plot)
    console = console_for()
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
        grown = ball.grown(device_and_dtype(options)[1], network.input_shape)
        return grown, load_rows(options, network, labels)
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
        write_json(options.json, comparison.to_json())
    if options.plot is not None:
        save_plot(comparison, options.plot)
