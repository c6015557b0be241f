"""What `speed.py` shows of its record: tables and fitted exponents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from benchmarks.measure import growth
from benchmarks.measure.methods import METHODS
from benchmarks.measure.protocol import DTYPES, Method
from benchmarks.measure.workloads import Setting

Record = dict[str, Any]
#: Fewer sizes than this give no exponent.
LEAST = 3
#: Less memory says nothing of a method, but of what libraries load.
LEAST_MEGABYTES = 10
#: Whose values are unstable neurons.
BACKWARD = "relax: backward"
COLUMNS = ("seconds", "× ours", "difference", "at its l, u", "MB", "Gflop", "of rate")


def entry(
    record: Record, network: str, method: str, setting: Setting | None = None
) -> Record | None:
    """A cell that has a time; of what networks are compared at, unless told."""
    setting = setting or growth.usual(network, METHODS[method])
    cells = record["networks"].get(network, {}).get("cells", {})
    found = cells.get(f"{method} @ {setting}")
    return found if found is not None and "seconds" in found else None


# -- tables


def table(record: Record, network: str) -> Table:
    """A row a cell: seconds ("~": extrapolated), and beside them how far the values are from those
    of the method of ours that does the same."""
    found = record["networks"][network]
    unstable = ", ".join(map(str, found["unstable"]))
    shown = Table(
        title=f"{network}: {found['parameters']:,} parameters, {found['neurons']:,} neurons, "
        f"{unstable} of them unstable, radius {found['radius']:.3g}",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("method")
    shown.add_column("inputs", justify="right")
    for column in COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    for name, method in METHODS.items():
        for setting in growth.settings(network, method):
            cell = found["cells"].get(f"{name} @ {setting}")
            if cell is not None and "seconds" in cell:
                ours = entry(record, network, method.ours, setting)
                rate = record["matrix_rate" if setting.cores is None else "matrix_rate_of_one_core"]
                row = columns(method, cell, ours, rate[DTYPES[method.task]])
                shown.add_row(name, str(setting), *row)
            elif cell is not None:
                shown.add_row(f"{name}: {cell['note']}", str(setting))
    return shown


def columns(method: Method, cell: Record, ours: Record | None, rate: float) -> list[str]:
    mark = "" if cell["solved"] == cell["of"] else "~"
    flops, share = "", ""
    if "operations" in cell:
        flops = f"{cell['operations'] / 1e9:.3g}"
        share = f"{100 * cell['operations'] / cell['seconds'] / rate:.2g} %"
    at_theirs = cell.get("at_their_bounds")
    return [
        f"{mark}{cell['seconds']:.3g}",
        "" if ours is None else f"{cell['seconds'] / ours['seconds']:.2g}",
        deviation(method, cell, ours),
        "" if at_theirs is None else f"{at_theirs:.0e}",
        f"{cell['megabytes']:.0f}",
        flops,
        share,
    ]


def deviation(method: Method, cell: Record, ours: Record | None) -> str:
    """The largest difference of the values to ours, relative to max(1, |ours|), with its sign, or
    the mean number of unstable neurons; and how many LPs the method gave up."""
    failed = f" ({cell['failed']} failed)" if cell["failed"] else ""
    if method.task == "relax":
        return f"{np.mean(cell['values']):.0f} unstable"
    if ours is None or METHODS[method.ours] is method:
        return failed.strip()
    pairs = zip(cell["values"], ours["values"], strict=False)
    both = [(value, own) for value, own in pairs if value is not None and own is not None]
    if not both:
        return failed.strip()
    return f"{max(((v - o) / max(1, abs(o)) for v, o in both), key=abs):+.0e}{failed}"


# -- growth


def exponents(record: Record, quantity: str) -> dict[str, dict[str, float]]:
    """The powers of the sizes that "seconds" or "megabytes" of each method grow with, by least
    squares of their logarithms; only where there are LEAST sizes."""
    least = LEAST_MEGABYTES if quantity == "megabytes" else 0.0
    found: dict[str, dict[str, float]] = {}
    for method in METHODS:
        for direction in growth.DIRECTIONS:
            points = [
                (size, cell[quantity])
                for size, cell in grown(record, method, direction)
                if cell[quantity] > least
            ]
            if len(points) >= LEAST:
                sizes, values = np.log(np.array(points)).T
                found.setdefault(method, {})[direction] = float(np.polyfit(sizes, values, 1)[0])
    return found


def grown(record: Record, method: str, direction: str) -> list[tuple[float, Record]]:
    """(size, cell) of a method along one direction, where it has a time."""
    found = []
    for network, setting in growth.line(direction, METHODS[method]):
        cell = entry(record, network, method, setting)
        size = size_of(record, network, setting, direction)
        if cell is not None and size is not None:
            found.append((size, cell))
    return found


def size_of(record: Record, network: str, setting: Setting, direction: str) -> float | None:
    if direction in growth.FAMILIES:
        (size,) = (size for size, name in growth.FAMILIES[direction].items() if name == network)
        return size
    if direction != "unstable":
        return setting.batch if direction == "batch" else setting.rows
    fast = growth.usual(network, METHODS[BACKWARD])
    counted = entry(record, network, BACKWARD, replace(fast, radii=setting.radii))
    # The inputs of a smaller batch are the first of a larger one.
    return None if counted is None else float(np.mean(counted["values"][: setting.batch]))


def exponents_table(record: Record) -> Table:
    """Of seconds, and behind them of memory."""
    shown = Table(title="seconds (megabytes) grow with this power of", box=box.SIMPLE_HEAD)
    shown.add_column("method")
    for direction in growth.DIRECTIONS:
        shown.add_column(direction, justify="right")
    for method, fitted in record["exponents"].items():
        row = []
        for direction in growth.DIRECTIONS:
            powers = [
                found.get(direction)
                for found in (fitted, record["memory_exponents"].get(method, {}))
            ]
            time, memory = ("" if power is None else f"{power:.2f}" for power in powers)
            row.append(f"{time} ({memory})" if memory else time)
        shown.add_row(method, *row)
    return shown


def cores_table(record: Record) -> Table:
    """How much faster all cores are than one."""
    shown = Table(title="times as fast on all cores as on one", box=box.SIMPLE_HEAD)
    shown.add_column("method")
    for network in growth.ON_ONE_CORE:
        shown.add_column(network, justify="right")
    for method in METHODS:
        shown.add_row(method, *(speedup(record, network, method) for network in growth.ON_ONE_CORE))
    return shown


def speedup(record: Record, network: str, method: str) -> str:
    setting = growth.usual(network, METHODS[method])
    all_cores = entry(record, network, method, setting)
    one_core = entry(record, network, method, replace(setting, cores=1))
    if all_cores is None or one_core is None:
        return ""
    return f"{one_core['seconds'] / all_cores['seconds']:.2f}"
