"""`bounds check`: the claims of a saved certificate, proved again by code of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from bounds.checker import check
from bounds.checker.report import check_json, print_check
from bounds.cli.problem import SHIPPED, load_model, require_writable


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "check",
        help="prove a saved certificate, sharing no code with the solver",
        description="Prove the claims of a certificate in ball arithmetic, from the file and the "
        "model alone. Exit status: 0 where every claim is proved, 1 where one is rejected.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_run, device="cpu", dtype="float64")
    command.add_argument(
        "certificate", metavar="FILE", help="what solution.certificate.save(FILE) wrote"
    )
    command.add_argument(
        "model",
        metavar="MODEL",
        help=f"a torch.export archive (.pt2), an ONNX file (.onnx), or one of {', '.join(SHIPPED)}",
    )
    command.add_argument(
        "--precision", type=int, default=128, metavar="BITS", help="of the balls; 128"
    )
    command.add_argument(
        "--exact",
        action="store_true",
        help="also find the optimum of every LP in rational numbers; for small ones",
    )
    command.add_argument(
        "--trust-bounds",
        action="store_true",
        help="take l and u of the ReLUs for granted, and prove claims about their LP only",
    )
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")


def _run(options: argparse.Namespace) -> int:
    require_writable(options.json)
    console = Console(highlight=False)
    network = load_model(options)
    with console.status("proving every claim again"):
        result = check(
            options.certificate,
            network,
            precision=options.precision,
            exact=options.exact,
            trust_bounds=options.trust_bounds,
        )
    print_check(result, console)
    if options.json is not None:
        record = {
            "certificate": options.certificate,
            "model": options.model,
            "precision": options.precision,
            **check_json(result),
        }
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    return 0 if result.accepted else 1
