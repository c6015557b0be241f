"""The tables of measurements on the pages, made of the JSON files in benchmarks/results.

    python docs/measured.py

writes them again, between the comments that name them; a test sees that they are up to date.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs import speed_tables
from docs.tools.tables import results, seconds, table

DOCS = Path(__file__).resolve().parent
#: The text between <!-- name --> and <!-- end -->.
TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.S)
#: The largest gap at which a method counts as arrived.
CLOSE = 1e-3


def tightness() -> str:
    """Seconds for the LPs of each network, and the mean gap that is left."""
    head = ["network (unstable neurons)", "fixed slope", "adaptive slope"]
    head += [f"{name}, gap ≤ 1e-3" for name in ("optimised slopes", "interior point", "pdhg")]
    rows = []
    for name, network in results("tightness")["networks"].items():
        row = [f"{name} ({statistics.mean(network['unstable']):.0f})"]
        for runs in network["methods"].values():
            arrived = [run for run in runs if run["largest"] <= CLOSE]
            if len(runs) == 1:
                row.append(f"{seconds(runs[0]['seconds'])} s, gap {runs[0]['mean']:.0%}")
            elif arrived:
                row.append(f"{seconds(arrived[0]['seconds'])} s")
            else:
                row.append(f"over {seconds(runs[-1]['seconds'])} s")
        rows.append(row)
    return table(head, rows)


#: LPs of few and many neurons, dense and convolutional, one input and many.
SIMPLEX = (
    "mlp_LPD, 9 rows",
    "cnn_LPD, 9 rows",
    "cnn_NOR, 9 rows",
    "cnn_NOR, 1 row",
    "mnist_MLP_9_100_NOR 0.02, 9 rows",
    "layer 2 of cnn_NOR",
)


def simplex() -> str:
    """CPU seconds to a gap of 1e-9, by both methods, and which of them "exact" takes."""
    head = [
        "LPs",
        "inputs × rows",
        "unstable neurons",
        "interior point",
        "simplex",
        "`exact` takes",
    ]
    measured = results("simplex")["lps"]
    rows = []
    for name in SIMPLEX:
        found = measured[name]
        times = [
            f"{seconds(found[method]['optimum']['cpu_seconds'])} s"
            for method in ("interior_point", "simplex")
        ]
        unstable = f"{statistics.mean(found['unstable']):.0f}"
        size = f"{found['inputs']} × {found['rows']}"
        rows.append([name, size, unstable, *times, found["exact"].replace("_", " ")])
    return table(head, rows)


def intermediate() -> str:
    """Seconds for the intermediate bounds of ten inputs, and how many neurons stay unstable."""
    kinds = ("interval", "backward", "optimised")
    rows = []
    for name, network in results("speed")["networks"].items():
        cells = [network["cells"].get(f"relax: {kind} @ 10") for kind in kinds]
        if all(cell is not None and "seconds" in cell for cell in cells):
            row = [f"{name} ({network['neurons']})"]
            for cell in cells:
                unstable = statistics.mean(cell["values"])
                row.append(f"{seconds(cell['seconds'])} s, {unstable:.0f} unstable")
            rows.append(row)
    return table(["network (neurons)", *(f'`"{kind}"`' for kind in kinds)], rows)


TABLES: dict[str, Callable[[], str]] = {
    "tightness": tightness,
    "simplex": simplex,
    "intermediate": intermediate,
    **speed_tables.TABLES,
}


def filled(text: str) -> str:
    """A page with its tables."""
    return TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
