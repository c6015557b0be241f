"""`bounds certify`: a verdict for a VNN-LIB property, or for each input of a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

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
from bounds.cli.problem import (
    SHIPPED,
    add_problem,
    device_and_dtype,
    load_ball,
    load_model,
    read_property,
    require_writable,
)
from bounds.errors import InvalidInputError

WORKING = "bounding, attacking, and solving exactly what is left"


def add_certify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "certify",
        help="prove a property, or find a counterexample",
        description="Prove that no input within the ball is answered wrongly, or that no input of "
        "a VNN-LIB file is a counterexample (unsat); or find a counterexample and replay it (sat). "
        "Exit status: 0 where all is proved, 1 where something is not.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_run)
    add_problem(command)
    command.add_argument(
        "--counterexample",
        metavar="FILE",
        help="write the verdict on --vnnlib to this file, and under it the counterexample, as the "
        "competition VNN-COMP has them",
    )
    command.add_argument("--timeout", type=float, metavar="S", help="in seconds; default none")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")
    command.add_argument(
        "--deployed",
        choices=("float32", "float64"),
        help="prove it for the network as evaluated in this dtype, too; default: over the reals",
    )


def _run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.counterexample)
    if options.vnnlib is not None:
        return _property(options)
    if options.counterexample is not None:
        raise InvalidInputError("--counterexample goes with --vnnlib; --json has those of inputs.")
    return _data_set(options)


def _property(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
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
        Path(options.counterexample).write_text("\n".join([certification.verdict, *found, ""]))
    _write(options, {"vnnlib": options.vnnlib}, property_json(certification, property))
    return 0 if certification.verdict == "unsat" else 1


def _data_set(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
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
            dtype=ball.x.dtype,
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
        Path(options.json).write_text(json.dumps(whole, indent=1) + "\n")
