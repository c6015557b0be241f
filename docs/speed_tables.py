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
NEAR = (*reading.ITERATIVE, *EXACT)
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


def _theirs(network: Record) -> tuple[list[str], list[str]]:
    """Other packages as they come, and on our condensed LP."""
    names = [name for name in reading.solvers(network) if name not in reading.OURS]
    condensed = [name for name in names if name.endswith(CONDENSED)]
    return [name for name in names if name not in condensed], condensed


def _first(network: Record, names: tuple[str, ...], largest: float) -> tuple[str, Record] | None:
    """Of ours; `exact` where what it chose from was not done in time by itself."""
    alone = reading.cheapest(network, names, largest)
    return alone or reading.cheapest(network, ("exact",), largest)


def near() -> str:
    """What one pass leaves, and who arrives near the optimum first."""
    rows = []
    for name, network in _networks().items():
        passes = [
            (reading.mean_gap(network, cell), cell)
            for method, cell in reading.solvers(network).items()
            if method in reading.ONE_PASS
        ]
        # The better of two that cost the same.
        gap, cell = min(passes, key=lambda found: (found[0] is None, found[0]))
        ours = _first(network, NEAR, reading.CLOSE)
        theirs = reading.cheapest(network, _theirs(network)[0], reading.CLOSE)
        rows.append(
            [
                f"{name} ({_unstable(network)})",
                f"{_time(cell)} s" + ("" if gap is None else f", gap {100 * gap:.2g}%"),
                _named(ours),
                _named(theirs, ours),
            ]
        )
    return table(["network (unstable neurons)", "one pass", "ours", "a peer"], rows)


def optimal() -> str:
    """Who arrives at the optimum first."""
    rows = []
    for name, network in _networks().items():
        ours = _first(network, EXACT, reading.CLOSED)
        theirs = (
            _named(reading.cheapest(network, methods, reading.CLOSED), ours)
            for methods in _theirs(network)
        )
        rows.append([name, _named(ours), *theirs])
    return table(["network", "ours", "a peer", "a peer, on our condensed LP"], rows)


def wins() -> str:
    """On which networks each method is the first."""
    goals = {
        "gap ≤ 1e-3": (NEAR, reading.CLOSE),
        "exact": (EXACT, reading.CLOSED),
    }
    networks = _networks()
    rows = []
    for goal, (methods, largest) in goals.items():
        first: dict[str, list[str]] = {}
        for name, network in networks.items():
            winner = _first(network, methods, largest)
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
    heads = (method.split(": ")[1].removesuffix(" to 1e-3") for method in methods)
    return table(["network", *heads], rows)


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
    "near": near,
    "optimal": optimal,
    "from_nothing": from_nothing,
    "solving": solving,
    "peers_solving": peers_solving,
    "growth": growth,
    "cores": cores,
    "of_the_rate": of_the_rate,
    "missing": missing,
}
