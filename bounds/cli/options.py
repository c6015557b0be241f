"""The options of the commands: all that `bounds --help` needs, and nothing that is slow to import.

Each command names the module whose `run(options)` does its work.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from bounds.cli.choices import METHODS, Commands
from bounds.cli.data_set_options import add_data_set, add_evaluate, add_report
from bounds.cli.engine_options import add_jobs
from bounds.cli.problem_options import add_model, add_problem
from bounds.cli.research_options import add_attribute, add_audit
from bounds.cli.standard_options import add_benchmark, add_supports, add_verify


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as all of the command line does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help shows what is expected.\n")


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bounds", description="LP-exact bounds for ReLU networks.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("--name", action=_Name, nargs=0, help="show the solver's name and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_compare(commands)
    _add_certify(commands)
    _add_check(commands)
    add_verify(commands)
    add_supports(commands)
    add_benchmark(commands)
    add_evaluate(commands)
    add_report(commands)
    add_audit(commands)
    add_attribute(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from bounds import __version__

        print(__version__)
        parser.exit()


class _Name(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print("bounds")
        parser.exit()


def _add_compare(commands: Commands) -> None:
    command = commands.add_parser(
        "compare",
        help="fixed slope, exact and cvxpy side by side",
        description="Bound every margin of a network over a ball, or every row of a VNN-LIB file, "
        "by the fixed slope, by the exact dual and by cvxpy, and check that the exact dual equals "
        "the LP optimum.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.compare")
    add_problem(command)
    command.add_argument("--plot", metavar="FILE", help="draw them into this file (png, svg, pdf)")


def _add_certify(commands: Commands) -> None:
    command = commands.add_parser(
        "certify",
        help="prove a property, or find a counterexample",
        description="Prove that no input within the ball is answered wrongly, or that no input of "
        "a VNN-LIB file is a counterexample (unsat); or find a counterexample and replay it (sat). "
        "Exit status: 0 where all is proved, 1 where something is not.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.certify")
    add_problem(command)
    command.add_argument(
        "--counterexample",
        metavar="FILE",
        help="write the verdict on --vnnlib to this file, and under it the counterexample, as the "
        "competition VNN-COMP has them",
    )
    command.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="in seconds; without it, searches end after 100,000 boxes or 2,000 nodes",
    )
    command.add_argument(
        "--proof",
        metavar="FILE",
        help="write what proves an unsat to this file, which bounds check proves again",
    )
    command.add_argument(
        "--journal",
        metavar="FILE",
        help="write to this file, every few seconds, how far searches are; the same command goes "
        "on from there after a kill, or with more time",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")
    command.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="what follows one pass and an attack: the LP optimum of the whole set, or a search of "
        "parts of it, or of phases of ReLUs; default: of parts where at most 30 inputs can move, "
        "else of phases",
    )
    command.add_argument(
        "--verbose",
        action="store_true",
        help="say on standard error which of these it was, and why",
    )
    command.add_argument(
        "--deployed",
        choices=("float32", "float64"),
        help="prove it for the network as evaluated in this dtype, too; default: over the reals",
    )


def _add_check(commands: Commands) -> None:
    command = commands.add_parser(
        "check",
        help="prove a saved certificate or proof, sharing no code with solver and search",
        description="Prove the claims of a certificate in ball arithmetic, from the file and the "
        "model alone; or of what bounds certify --proof wrote that it is about the property, that "
        "its trees cover every case, and each of their leaves. Of a folder of proofs, --data, "
        "--labels and --radius count the images of a data set that they prove. Exit status: 0 "
        "where every claim is proved, 1 where one is rejected.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.check", device="cpu", dtype="float64")
    command.add_argument(
        "certificate",
        metavar="FILE",
        help="what solution.certificate.save(FILE) wrote, or bounds certify --proof FILE, or the "
        "folder of bounds evaluate --proofs FOLDER",
    )
    add_model(command, required=True)
    command.add_argument(
        "--vnnlib", metavar="SPEC", help="the property that a proof has to be about"
    )
    add_data_set(command, required=False)
    add_jobs(command, "the files of a folder, so many processes at a time; 1")
    command.add_argument(
        "--precision",
        type=int,
        default=128,
        metavar="BITS",
        help="of the balls; default %(default)s",
    )
    command.add_argument(
        "--exact",
        action="store_true",
        help="also find the optimum of every LP in rational numbers, or prove every leaf in them; "
        "for small ones",
    )
    command.add_argument(
        "--trust-bounds",
        action="store_true",
        help="take l and u of the ReLUs for granted, and prove claims about their LP only",
    )
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")
