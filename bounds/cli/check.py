"""`bounds check`: the claims of a saved certificate or proof, proved again by code of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from bounds.checker import check, check_proof
from bounds.checker.proof_file import is_proof
from bounds.checker.proof_report import print_proof_check, proof_json
from bounds.checker.report import check_json, print_check
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, require_writable
from bounds.errors import InvalidInputError


def run(options: argparse.Namespace) -> int:
    require_writable(options.json)
    if Path(options.certificate).is_dir():
        from bounds.cli.check_folder import run_folder  # which reads data sets

        return run_folder(options)
    for name in ("data", "labels", "radius", "clip", "mean", "std", "jobs"):
        if getattr(options, name) is not None:
            raise InvalidInputError(
                f"--{name} goes with a folder of proofs, and {options.certificate!r} is none: "
                "leave it out, or give what bounds evaluate --proofs wrote."
            )
    if is_proof(options.certificate):
        return _proof(options)
    if options.vnnlib is not None:
        raise InvalidInputError(
            f"--vnnlib goes with a proof, and {options.certificate!r} is none: leave it out, or "
            "give what bounds certify --proof wrote."
        )
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


def _proof(options: argparse.Namespace) -> int:
    if options.trust_bounds:
        raise InvalidInputError(
            "--trust-bounds goes with a certificate: a proof has no l and u to trust, leave it out."
        )
    console = console_for(highlight=False)
    network = load_model(options)
    with console.status("proving every leaf again") as status:
        result = check_proof(
            options.certificate,
            network,
            vnnlib=options.vnnlib,
            precision=options.precision,
            exact=options.exact,
            watch=lambda done, total: status.update(
                f"proving every leaf again: {done} of {total} nodes"
            ),
        )
    print_proof_check(result, console)
    if options.json is not None:
        record = {"proof": options.certificate, "model": options.model, **proof_json(result)}
        write_json(options.json, record)
    return 0 if result.accepted else 1
