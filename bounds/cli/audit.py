"""`bounds audit`: bounds that another tool claims, judged."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bounds.analysis.audit import audit
from bounds.analysis.audit_report import audit_json, print_audit
from bounds.analysis.claims import ROWS, Claims
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, load_problem, require_writable
from bounds.errors import InvalidInputError


def run(options: argparse.Namespace) -> int:
    require_writable(options.json)
    claims = Claims.load(options.claims)
    network = load_model(options)
    ball, rows = load_problem(options, network)
    if ROWS in claims.ends and claims.rows is None:
        claims = replace(claims, rows=rows)
    elif options.rows is not None or options.label is not None:
        raise InvalidInputError(
            f"--{'label' if options.rows is None else 'rows'} says what claims by 'rows' are "
            f"about, and {options.claims!r} "
            f"{'has rows of its own' if ROWS in claims.ends else 'has none'}: leave it out."
        )
    console = console_for(highlight=False)
    with console.status("judging every claim, then solving its LP"):
        found = audit(
            network,
            ball,
            claims,
            complete=options.complete,
            time_limit=options.timeout,
            seed=options.seed,
        )
    print_audit(found, console)
    if options.json is not None:
        record = {"model": options.model, "claims_file": options.claims, **audit_json(found)}
        write_json(options.json, record)
    return 0 if found.sound and found.count("open") == 0 else 1
