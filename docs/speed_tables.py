"""The tables of guide/speed.md, made of the record of `benchmarks/speed.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.measure import reading
from docs.tools.tables import results, seconds, table

Record = dict[str, Any]
#: What `exact` chooses from; beside it, these alone say which of them wins.
EXACT = ("interior point", "simplex")
CONDENSED = ", condensed by us"
#: Ours and, behind each, the peer that bounds the same in the same way.
FROM_NOTHING = (
    "bound: fixed slope",
    "bound: convex_adversarial",
    "bound: adaptive slope",
    "bound: auto_LiRPA CROWN",
    "bound: optimised slope",
    "bound: auto_LiRPA α-CROWN, 20 steps",
)
PEERS = (
    "auto_LiRPA α-CROWN, 100 steps",
    "HiGHS simplex, warm",
    f"HiGHS simplex, warm{CONDENSED}",
    "HiGHS ipm + crossover",
    "cvxpy + HiGHS",
    "cvxpy + CLARABEL",
)
#: Ours whose operations torch counts.
BY_PRODUCTS = ("fixed slope", "optimised slope to 1e-3", "pdhg to 1e-3", "interior point")
#: Of each task.
DTYPES = {"relax": "float32", "bound": "float32", "solve": "float64"}
#: What begins the note of a method that a smaller network already stopped.
SMALLER = "a smaller one: "


def _networks() -> dict[str, Record]:
    networks: dict[str, Record] = results("speed")["networks"]
    return networks


def _unstable(network: Record) -> str:
    return f"{statistics.mean(network['unstable']):.0f}"


def _time(cell: Record) -> str:
    """Seconds; "~": extrapolated from the LPs that were solved."""
    return f"{'' if cell['solved'] == cell['of'] else '~'}{seconds(cell['seconds'])}"


def _named(winner: tuple[str, Record] | None, ours: tuple[str, Record] | None = None) -> str:
    if winner is None:
        return "–"
    name, cell = winner
    ratio = ""
    if ours is not None:
        ratio = f", × {seconds(cell['seconds'] / ours[1]['seconds'])}"
    return f"{name.removesuffix(CONDENSED).removesuffix(' to 1e-3')}: {_time(cell)} s{ratio}"


def winners() -> str:
    """What arrives first, ours and a peer's."""
    head = [
        "network (unstable neurons)",
        "one pass",
        "gap ≤ 1e-3",
        "a peer, gap ≤ 1e-3",
        "exact",
        "a peer, exact",
        "a peer, exact, on our condensed LP",
    ]
    rows = []
    for name, network in _networks().items():
        passes = [
            (reading.mean_gap(network, cell), cell)
            for method, cell in reading.solvers(network).items()
            if method in reading.ONE_PASS
        ]
        # The better of two that cost the same.
        gap, cell = min(passes, key=lambda found: (found[0] is None, found[0]))
        one_pass = f"{_time(cell)} s" + ("" if gap is None else f", gap {100 * gap:.2g}%")
        solvers = list(reading.solvers(network))
        theirs = [method for method in solvers if method not in reading.OURS]
        plain = [method for method in theirs if not method.endswith(CONDENSED)]
        condensed = [method for method in theirs if method.endswith(CONDENSED)]
        close = reading.cheapest(network, (*reading.ITERATIVE, *EXACT), reading.CLOSE)
        exact = reading.cheapest(network, EXACT, reading.CLOSED)
        rows.append(
            [
                f"{name} ({_unstable(network)})",
                one_pass,
                _named(close),
                _named(reading.cheapest(network, plain, reading.CLOSE), close),
                _named(exact),
                _named(reading.cheapest(network, plain, reading.CLOSED), exact),
                _named(reading.cheapest(network, condensed, reading.CLOSED), exact),
            ]
        )
    return table(head, rows)


def wins() -> str:
    """On which networks each method is the first."""
    goals = {
        "gap ≤ 1e-3": ((*reading.ITERATIVE, *EXACT), reading.CLOSE),
        "exact": (EXACT, reading.CLOSED),
    }
    networks = _networks()
    rows = []
    for goal, (methods, largest) in goals.items():
        first: dict[str, list[str]] = {}
        for name, network in networks.items():
            winner = reading.cheapest(network, methods, largest)
            first.setdefault("nobody in time" if winner is None else winner[0], []).append(name)
        for method, names in sorted(first.items(), key=lambda found: -len(found[1])):
            share = f"{len(names)} of {len(networks)}"
            rows.append([goal, method.removesuffix(" to 1e-3"), share, ", ".join(names)])
    return table(["to", "first", "on", "networks"], rows)


def _costs(methods: tuple[str, ...]) -> str:
    """Seconds and, in brackets, megabytes."""
    rows = []
    for name, network in _networks().items():
        row = [name]
        for method in methods:
            cell = reading.usual(network, method)
            row.append("–" if cell is None else f"{_time(cell)} ({cell['megabytes']:.0f})")
        rows.append(row)
    return table(["network", *(method.split(": ")[1] for method in methods)], rows)


def from_nothing() -> str:
    return _costs(FROM_NOTHING)


def solving() -> str:
    return _costs(tuple(f"solve: {method}" for method in reading.OURS))


def peers_solving() -> str:
    return _costs(tuple(f"solve: {method}" for method in PEERS))


def growth() -> str:
    """The powers of seconds and, in brackets, of megabytes."""
    record = results("speed")
    directions = ("width", "depth", "batch", "rows", "unstable")
    rows = []
    for method, powers in record["exponents"].items():
        row = [method]
        for direction in directions:
            memory = record.get("memory_exponents", {}).get(method, {}).get(direction)
            found = f"{powers[direction]:.1f}" if direction in powers else "–"
            row.append(found if memory is None else f"{found} ({memory:.1f})")
        rows.append(row)
    return table(["", *directions[:-1], "unstable neurons"], rows)


def cores() -> str:
    """How many times as fast all cores are as one."""
    networks = _networks()
    ratios: dict[str, dict[str, str]] = {}
    for name, network in networks.items():
        for key, alone in network["cells"].items():
            method, setting = key.split(" @ ")
            together = network["cells"].get(f"{method} @ {setting.removesuffix(', 1 core')}", {})
            if setting.endswith(", 1 core") and "seconds" in alone and "seconds" in together:
                ratio = f"{alone['seconds'] / together['seconds']:.1f}"
                ratios.setdefault(method, {})[name] = ratio
    measured = [name for name in networks if any(name in found for found in ratios.values())]
    rows = [
        [method, *(found.get(name, "–") for name in measured)] for method, found in ratios.items()
    ]
    return table(["", *measured], rows)


def of_the_rate() -> str:
    """Operations a second, of what this machine's matrix product does."""
    record = results("speed")
    methods = (*FROM_NOTHING[:4], *(f"solve: {method}" for method in BY_PRODUCTS))
    rows = []
    for name, network in record["networks"].items():
        row = [name]
        for method in methods:
            cell = reading.usual(network, method)
            rate = record["matrix_rate"][DTYPES[method.split(":")[0]]]
            if cell is None or "operations" not in cell:
                row.append("–")
            else:
                row.append(f"{cell['operations'] / cell['seconds'] / rate:.1%}")
        rows.append(row)
    return table(["network", *methods], rows)


def missing() -> str:
    """Which method has no time on which network, and why; growth only where a network has one."""
    why: dict[tuple[str, str], list[str]] = {}
    for name, network in _networks().items():
        for key, cell in network["cells"].items():
            method, setting = key.split(" @ ")
            usual = reading.setting(network, method)
            stopped = "note" in network["cells"][f"{method} @ {usual}"]
            if "note" in cell and (setting == usual or not stopped):
                place = name if setting == usual else f"{name} @ {setting}"
                note = cell["note"].removeprefix(SMALLER)
                why.setdefault((method, note), []).append(place)
    rows = [[method, note, ", ".join(places)] for (method, note), places in why.items()]
    return table(["method", "why", "networks"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "wins": wins,
    "winners": winners,
    "from_nothing": from_nothing,
    "solving": solving,
    "peers_solving": peers_solving,
    "growth": growth,
    "cores": cores,
    "of_the_rate": of_the_rate,
    "missing": missing,
}
