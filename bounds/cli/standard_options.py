"""The options of what the VNN-LIB standard and the competition ask for."""

from __future__ import annotations

from bounds.cli.choices import METHODS, Commands
from bounds.cli.engine_options import add_engine


def add_verify(commands: Commands) -> None:
    command = commands.add_parser(
        "verify",
        help="decide a VNN-LIB query, as the standard says",
        description="Decide whether a query in VNN-LIB 1.0 or 2.0 can be satisfied. The first line "
        "of standard output is sat, unsat, unknown or timed-out, and what comes after sat is the "
        "assignment. Exit status: 0 whichever it is, 2 for input that cannot be used.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.verify")
    command.add_argument("query", metavar="QUERY.vnnlib", help="gzipped or not")
    command.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=MODEL.onnx",
        help="the model of a network that the query declares; once for each that is not equal to "
        "another, and without NAME= where there is only one",
    )
    command.add_argument("--timeout", type=float, metavar="S", help="in seconds")
    command.add_argument(
        "--serialise-assignments",
        metavar="DIR",
        help="write the assignment there, each tensor as an ONNX TensorProto NAME.pb, and not to "
        "standard output",
    )
    command.add_argument(
        "--result",
        metavar="FILE",
        help="also write the verdict to this file, and under it the assignment, as the competition "
        "VNN-COMP has them",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")
    command.add_argument("--method", choices=METHODS, default="auto", help="see certify")


#: What `supports` is asked, by the standard.
CAPABILITIES = (
    "onnx-opset-versions",
    "onnx-element-types",
    "onnx-operators",
    "vnnlib-versions",
    "hidden-node-theories",
    "multiple-input-output-theories",
    "multiple-network-theories",
    "multiple-node-comparison-theories",
    "arithmetic-complexity-theories",
    "optimised-disjunctive-reasoning",
    "serialise-assignments",
)


def add_supports(commands: Commands) -> None:
    command = commands.add_parser(
        "supports",
        help="say which queries and models verify takes",
        description="Report a capability of verify, as the VNN-LIB standard asks for it.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.supports")
    asked = command.add_mutually_exclusive_group(required=True)
    for name in CAPABILITIES:
        asked.add_argument(f"--{name}", dest="asked", action="store_const", const=name)


def add_benchmark(commands: Commands) -> None:
    command = commands.add_parser(
        "benchmark",
        help="run a benchmark of the competition VNN-COMP",
        description="Verify every instance of a folder's instances.csv in a process of its own, "
        "with its own timeout. What an earlier run has written to the same folder is not run "
        "again, but for errors. Exit status: 0, or 1 where --against has contradictions.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.benchmark")
    command.add_argument("folder", metavar="FOLDER", help="has instances.csv")
    command.add_argument(
        "--output",
        metavar="DIR",
        default="results",
        help="write results.csv there, and a file an instance; default %(default)s",
    )
    add_engine(command)
    command.add_argument(
        "--shard",
        metavar="I/N",
        help="run the I-th of every N instances, and write results.I-of-N.csv",
    )
    command.add_argument(
        "--against",
        metavar="CSV",
        help="compare with another tool's results.csv; a contradiction is judged by replaying the "
        "counterexample, which is looked for beside that file",
    )
    command.add_argument("--plot", metavar="FILE", help="draw a cactus plot (png, svg, pdf)")
