"""The options of what researchers ask of an exact reference."""

from __future__ import annotations

from bounds.cli.choices import Commands
from bounds.cli.problem_options import add_problem


def add_audit(commands: Commands) -> None:
    command = commands.add_parser(
        "audit",
        help="judge bounds that another tool claims",
        description="Judge bounds that another tool claims of the same network and inputs: refuted "
        "by a point, proved, or open; and beside each, how much looser it is than the optimum of "
        "the LP with the same l and u, and than a bound of ours. Exit status: 0 where every claim "
        "is proved, 1 where one is not.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.audit")
    add_problem(command, dtype=False)
    command.add_argument(
        "--claims",
        required=True,
        metavar="FILE",
        help="an .npz file of arrays NAME.lower and NAME.upper, or a .json file that has them "
        "nested, where NAME is output, rows (those of --rows or --label, or of rows.C and rows.d "
        "in the file), or the node of a ReLU; bounds.Claims(ends).save(FILE) writes one",
    )
    command.add_argument(
        "--complete",
        action="store_true",
        help="search for the true extremes of what the LP leaves open",
    )
    command.add_argument(
        "--timeout", type=float, metavar="S", help="in seconds; what is left then is open"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")


def add_attribute(commands: Commands) -> None:
    command = commands.add_parser(
        "attribute",
        help="what makes bounds loose: the slope, l and u, or the triangles",
        description="Of every margin of a network over a ball, or every row of a VNN-LIB file, how "
        "much the fixed slope loses to the LP optimum, l and u to LP-optimal ones, and the "
        "triangles to the true minimum, and which neurons cost most. Exit status: 0, or "
        "1 where an LP or a true minimum was not found.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.attribute")
    add_problem(command, dtype=False)
    command.add_argument(
        "--timeout", type=float, metavar="S", help="in seconds, for all rows, one after another"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")
    command.add_argument(
        "--plot",
        metavar="FILE",
        help="draw what the smallest bound loses into this file (png, svg, pdf)",
    )
