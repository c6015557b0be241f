"""`bounds check`: the claims of a saved certificate, proved again by code of its own."""

from __future__ import annotations

import argparse

from bounds.checker import check
from bounds.checker.report import check_json, print_check
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, require_writable


def run(options: argparse.Namespace) -> int:
    require_writable(options.json)
    console = console_for(highlight=False)
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
        write_json(options.json, record)
    return 0 if result.accepted else 1
