"""How many instances of VNN-COMP we and other verifiers decide, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/competition/peers.py --suite acasxu mnistfc \\
        --nnenum ../nnenum --crown ../alpha-beta-CROWN --json benchmarks/results/peers.json

Every instance is given to every tool in turn, in a process of its own, which ends after 60 CPU
seconds and what its start takes (measured on a trivial property). Whole processes are charged,
starting Python and reading files included. α,β-CROWN has the configuration that it ships for each
suite, without licensed solvers; nnenum its own settings. Of acasxu, 24 instances: ten that are
hard, and others evenly spaced. The JSON file is written after every process, and the same command
goes on from there, with a smaller --every too; at another commit of ours, it keeps what peers did.
Exit status 1 where verdicts contradict each other or the competition.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.competition.instances import Instance, instances, suite_options
from benchmarks.competition.tools import Crown, Nnenum, Ours, Tool
from benchmarks.support import command, environment, journal
from benchmarks.support.journal import Record

#: Networks, and the number of the property. The first ten take splits and ways of splitting that
#: tell tools apart; then every fifteenth of what is left and holds, and every seventh of the rest.
ACASXU = {
    *("3_7 1", "4_9 1", "1_1 5", "3_3 9", "1_1 3", "4_5 10", "4_3 3", "3_1 1", "1_4 2", "5_3 2"),
    *("1_1 1", "2_7 1", "4_6 1", "1_9 2", "3_1 3", "4_8 3", "2_2 4", "3_8 4"),
    *("1_2 2", "2_4 2", "3_2 2", "4_1 2", "4_9 2", "5_8 2"),
}
DECIDED = ("unsat", "sat")
#: Starts of each tool, of which the median counts.
STARTS = 3


def chosen(data: Path, suite: str, every: int) -> list[Instance]:
    found = instances(data, suite)
    return [i for i in found if _short(i) in ACASXU] if suite == "acasxu" else found[::every]


def _short(instance: Instance) -> str:
    """Of ACASXU_run2a_1_1_batch_2000.onnx and prop_3.vnnlib, 1_1 3."""
    network, number = instance.model.stem.split("_")[2:4], instance.property.stem.split("_")[1]
    return f"{'_'.join(network)} {number}"


def started(tool: Tool, data: Path, limit: float) -> Record:
    """CPU seconds of its process on a property that any bound decides, or why there are none."""
    trivial = next(i for i in instances(data, "test") if i.model.name == "test_nano.onnx")
    runs = [tool.run(trivial, limit=limit) for _ in range(STARTS)]
    wrong = [run for run in runs if run["verdict"] != "unsat"]
    return wrong[0] if wrong else sorted(runs, key=lambda run: run["seconds"])[STARTS // 2]


def contradictions(entries: Record) -> list[str]:
    """Of each other, and of the competition."""
    found = []
    for name, entry in entries.items():
        said = {"the competition": entry["truth"]}
        said |= {tool: run["verdict"] for tool, run in entry["tools"].items()}
        if set(DECIDED) <= set(said.values()):
            words = (f"{who} says {word}" for who, word in said.items() if word in DECIDED)
            found.append(f"{name}: {', '.join(words)}")
    return found


def summary(entries: Record) -> list[tuple[str, ...]]:
    """A line a peer: how many both were given, how many each decided, CPU seconds of each, in all
    and over those that both decide; and in how many one alone decides."""
    lines = []
    for peer in sorted({tool for entry in entries.values() for tool in entry["tools"]} - {"ours"}):
        pairs = [
            (entry["tools"]["ours"], entry["tools"][peer])
            for entry in entries.values()
            if entry["tools"].keys() >= {"ours", peer}
        ]
        decided = [tuple(run["verdict"] in DECIDED for run in pair) for pair in pairs]
        both = [pair for pair, by in zip(pairs, decided, strict=True) if all(by)]
        lines.append(
            (
                peer,
                str(len(pairs)),
                *(str(sum(by[who] for by in decided)) for who in (0, 1)),
                *(str(decided.count(alone)) for alone in ((True, False), (False, True))),
                *(
                    f"{sum(pair[who]['seconds'] for pair in some):.1f}"
                    for some in (both, pairs)
                    for who in (0, 1)
                ),
                str(sum(pair[1]["verdict"] == "error" for pair in pairs)),
            )
        )
    return lines


def table(record: Record) -> Table:
    shown = Table(title=f"{record['limit']:g} CPU s an instance besides the start, one thread")
    columns = ("decided by us", "by it", "by us alone", "by it alone", "both: our CPU s", "its")
    for column in ("suite", "peer", "instances", *columns, "all: our CPU s", "its", "its errors"):
        shown.add_column(column, justify="left" if column in ("suite", "peer") else "right")
    for suite, entries in record["suites"].items():
        for line in summary(entries):
            shown.add_row(suite, *line)
    return shown


def brought_up(stored: Record, fresh: Record) -> Record:
    """Of a record of another commit of ours, what peers did: that needs no measuring anew."""
    if stored["commit"] == fresh["commit"]:
        return stored
    theirs = {
        key: {tool: value for tool, value in stored[key].items() if tool != "ours"}
        for key in ("commits", "starts")
    }
    suites = {
        suite: {
            name: entry | {"tools": {k: v for k, v in entry["tools"].items() if k != "ours"}}
            for name, entry in entries.items()
        }
        for suite, entries in stored["suites"].items()
    }
    return fresh | theirs | {"suites": suites}


def ready(tools: list[Tool], record: Record, data: Path, console: Console) -> list[Tool]:
    """Those that answer, their commits and starts in the record; says why the others don't."""
    found = []
    for tool in tools:
        absent = tool.absent
        known = record["commits"]
        if absent is None and known.setdefault(tool.name, tool.commit) != tool.commit:
            raise SystemExit(
                f"the record is of {tool.name} {known[tool.name]}, not of {tool.commit}: "
                "check that out, or choose another --json."
            )
        if absent is None and tool.name not in record["starts"]:
            start = started(tool, data, record["limit"])
            if start["verdict"] == "unsat":
                record["starts"][tool.name] = start["seconds"]
            else:
                absent = (
                    f"{tool.name} is left out, on a trivial property it says {start}: {tool.remedy}"
                )
        if absent is None:
            found.append(tool)
        else:
            console.print(f"[yellow]{absent}", highlight=False)
    return found


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds; %(default)s")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every Nth instance of a suite"
    )
    names = ("ours", "nnenum", "crown")
    parser.add_argument("--tool", nargs="+", choices=names, default=names)
    parser.add_argument("--nnenum", type=Path, metavar="FOLDER", help="its checkout")
    parser.add_argument("--crown", type=Path, metavar="FOLDER", help="α,β-CROWN's checkout")
    parser.add_argument("--python", default=sys.executable, help="the peers' interpreter")
    console = Console()
    options = suite_options(parser, console)
    torch.set_num_threads(1)
    fresh: Record = {
        "benchmark": "peers",
        **environment.describe(torch.device("cpu")),
        "limit": options.limit,
        "commits": {},
        "starts": {},
        "suites": {},
    }
    record = journal.resumed(options.json, fresh, same=("benchmark", "limit", "device"))
    if "ours" in options.tool:
        record = brought_up(record, fresh)
    known = (Ours(), Nnenum(options.nnenum, options.python), Crown(options.crown, options.python))
    asked = [tool for tool in known if tool.name in options.tool]
    tools = ready(asked, record, options.data, console)
    with journal.progress(console) as progress:
        for suite in options.suite:
            done = record["suites"].setdefault(suite, {})
            wanted = chosen(options.data, suite, options.every)
            bar = progress.add_task(suite, total=len(wanted) * len(tools))
            for instance in wanted:
                entry = done.setdefault(instance.name, {"truth": instance.truth, "tools": {}})
                for tool in tools:
                    progress.update(bar, description=f"{instance.name}, {tool.name}")
                    if tool.name not in entry["tools"]:
                        entry["tools"][tool.name] = tool.run(
                            instance, limit=options.limit, start=record["starts"][tool.name]
                        )
                        journal.save(options.json, record)
                    progress.advance(bar)
    console.print(table(record))
    found = [what for entries in record["suites"].values() for what in contradictions(entries)]
    for what in found:
        console.print(f"[red]{what}", highlight=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
