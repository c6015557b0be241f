"""`bounds certify`: a verdict for a VNN-LIB property, or for each input of a data set."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from bounds.certification.data_set import certify
from bounds.certification.properties import certify_vnnlib
from bounds.certification.report import (
    data_set_json,
    print_certification,
    property_json,
    summary,
    worst_of_disjuncts,
    worst_of_rows,
)
from bounds.cli.options import SHIPPED
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import (
    device_and_dtype,
    load_ball,
    load_model,
    read_property,
    require_writable,
)
from bounds.errors import InvalidInputError
from bounds.files import write_file

WORKING = "bounding, attacking, and solving exactly what is left"


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.counterexample)
    if options.vnnlib is not None:
        return _property(options)
    if options.counterexample is not None:
        raise InvalidInputError("--counterexample goes with --vnnlib; --json has those of inputs.")
    return _data_set(options)


def _property(options: argparse.Namespace) -> int:
    console = console_for(highlight=False)
    device, dtype = device_and_dtype(options)
    property = read_property(options)
    with console.status(WORKING):
        certification = certify_vnnlib(
            load_model(options) if options.model in SHIPPED else options.model,
            property,
            timeout=options.timeout,
            seed=options.seed,
            device=device,
            dtype=dtype,
            deployed=_deployed(options),
        )
    console.print(certification.verdict, style="bold")
    worst = worst_of_disjuncts(certification, property)
    print_certification(certification, "case", worst, console)
    if options.counterexample is not None:
        found = [c.vnncomp() for c in certification.counterexamples if c is not None][:1]
        text = "\n".join([certification.verdict, *found, ""])
        write_file(options.counterexample, text.encode())
    _write(options, {"vnnlib": options.vnnlib}, property_json(certification, property))
    return 0 if certification.verdict == "unsat" else 1


def _data_set(options: argparse.Namespace) -> int:
    console = console_for(highlight=False)
    network = load_model(options)
    ball, labels = load_ball(options, network)
    with console.status(WORKING):
        certification = certify(
            network,
            ball.x,
            labels,
            radius=ball.radius,
            norm=ball.norm,
            lower=ball.lower,
            upper=ball.upper,
            timeout=options.timeout,
            seed=options.seed,
            dtype=device_and_dtype(options)[1],
            deployed=_deployed(options),
        )
    print_certification(certification, "input", worst_of_rows(certification), console)
    console.print(summary(certification), style="bold")
    stated = {"radius": ball.radius, "norm": str(ball.norm), "clip": [ball.lower, ball.upper]}
    _write(options, stated, data_set_json(certification, labels.expand(len(ball.x)).tolist()))
    return 0 if certification.verdict == "unsat" else 1


def _deployed(options: argparse.Namespace) -> torch.dtype | None:
    return None if options.deployed is None else getattr(torch, options.deployed)


def _write(options: argparse.Namespace, stated: dict[str, Any], record: dict[str, Any]) -> None:
    if options.json is not None:
        whole = {"verdict": record["verdict"], "model": options.model, **stated, **record}
        write_json(options.json, whole)
