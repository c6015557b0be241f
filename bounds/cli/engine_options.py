"""The options of what does many tasks."""

from __future__ import annotations

import argparse


def add_engine(command: argparse.ArgumentParser) -> None:
    add_jobs(
        command, "processes at a time; 1, and with --engine ray as many as the cluster has CPUs"
    )
    command.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="have the work done by processes of this machine, or by a cluster of Ray (extra "
        "cluster); %(default)s",
    )
    command.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of the cluster's head; without it, a cluster that runs on this machine, or a new one "
        "of this machine alone",
    )


def add_jobs(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--jobs", type=int, metavar="N", help=what)
