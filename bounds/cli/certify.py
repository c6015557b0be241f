"""`bounds certify`: a verdict for a VNN-LIB property, or for each input of a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console

from bounds.certification.data_set import certify
from bounds.certification.decision import Watch
from bounds.certification.properties import certify_vnnlib
from bounds.certification.report import (
    data_set_json,
    print_certification,
    property_json,
    summary,
    worst_of_disjuncts,
    worst_of_rows,
)
from bounds.certification.run import Certification
from bounds.cli.choices import SHIPPED
from bounds.cli.output import console_for, progress_of, write_json
from bounds.cli.problem import (
    device_and_dtype,
    load_ball,
    load_model,
    load_rows,
    read_property,
    require_writable,
)
from bounds.errors import InvalidInputError
from bounds.files import write_file
from bounds.interrupt import Interrupted

WORKING = "bounding, attacking, and solving or splitting what is left"


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.counterexample, options.proof, options.journal)
    if options.vnnlib is not None:
        return _property(options)
    if options.counterexample is not None:
        raise InvalidInputError("--counterexample goes with --vnnlib; --json has those of inputs.")
    return _data_set(options)


def _property(options: argparse.Namespace) -> int:
    console = console_for(highlight=False)
    device, dtype = device_and_dtype(options)
    property = read_property(options)

    def show(certification: Certification) -> None:
        console.print(certification.verdict, style="bold")
        worst = worst_of_disjuncts(certification, property)
        print_certification(certification, "case", worst, console)

    with _shown(options, "case", show) as watch:
        certification = certify_vnnlib(
            load_model(options) if options.model in SHIPPED else options.model,
            property,
            output=options.output,
            timeout=options.timeout,
            seed=options.seed,
            device=device,
            dtype=dtype,
            deployed=_deployed(options),
            method=options.method,
            watch=watch,
            proof=options.proof,
            journal=options.journal,
        )
    _tell(options, "case", certification)
    show(certification)
    _print_proof(options, certification, console)
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

    def show(certification: Certification) -> None:
        print_certification(certification, "input", worst_of_rows(certification), console)
        console.print(summary(certification), style="bold")

    with _shown(options, "input", show) as watch:
        certification = certify(
            network,
            ball.x,
            rows=load_rows(options, network, labels),
            radius=ball.radius,
            norm=ball.norm,
            lower=ball.lower,
            upper=ball.upper,
            timeout=options.timeout,
            seed=options.seed,
            dtype=device_and_dtype(options)[1],
            deployed=_deployed(options),
            method=options.method,
            watch=watch,
            proof=options.proof,
            journal=options.journal,
        )
    _tell(options, "input", certification)
    show(certification)
    _print_proof(options, certification, console)
    stated = {"radius": ball.radius, "norm": str(ball.norm), "clip": [ball.lower, ball.upper]}
    answered = None if options.rows is not None else labels.expand(len(ball.x)).tolist()
    _write(options, stated, data_set_json(certification, answered))
    return 0 if certification.verdict == "unsat" else 1


@contextmanager
def _shown(
    options: argparse.Namespace, kind: str, show: Callable[[Certification], None]
) -> Iterator[Watch]:
    """Progress; and what is known when Ctrl-C comes, which goes on after that."""
    try:
        with progress_of(WORKING, kind) as watch:
            yield watch
    except Interrupted as stop:
        _tell(options, kind, stop.partial)
        show(stop.partial)
        raise


def _tell(options: argparse.Namespace, kind: str, certification: Certification) -> None:
    """What --verbose adds."""
    if options.verbose:
        for number, (chosen, search) in enumerate(
            zip(certification.chosen, certification.searches, strict=True)
        ):
            came = "" if search is None else f"; {search.domains} domains, {search.open} open"
            print(f"{kind} {number}: {chosen or 'not reached'}{came}", file=sys.stderr)


def _print_proof(
    options: argparse.Namespace, certification: Certification, console: Console
) -> None:
    """What became of --proof."""
    if options.proof is not None:
        written = certification.proof
        console.print(
            f"no proof is written: the verdict is {certification.verdict}."
            if written is None
            else f"proof: {written.path}, {written.bytes} bytes, leaves: {written.leaves}",
            soft_wrap=True,
            markup=False,
        )


def _deployed(options: argparse.Namespace) -> torch.dtype | None:
    return None if options.deployed is None else getattr(torch, options.deployed)


def _write(options: argparse.Namespace, stated: dict[str, Any], record: dict[str, Any]) -> None:
    if options.json is not None:
        whole = {"verdict": record["verdict"], "model": options.model, **stated, **record}
        write_json(options.json, whole)
