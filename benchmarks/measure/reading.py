"""What a record of `speed.py` says of one network: who arrived how near the LP optimum, and when.

Of the record alone, without the package, so that pages are made of it anywhere.
"""

from __future__ import annotations

import statistics
from typing import Any

Record = dict[str, Any]
#: The batches that networks are compared at: the first that there is.
USUAL = {"relax": (10, 1), "bound": (10, 1), "solve": (3, 1)}
#: Ours that solve LPs, by the name of their cells.
ONE_PASS = ("fixed slope", "adaptive slope")
ITERATIVE = ("optimised slope to 1e-3", "pdhg to 1e-3")
EXACT = ("exact", "interior point", "simplex")
OURS = (*ONE_PASS, *ITERATIVE, *EXACT)
#: The largest gap at which a method counts as arrived, and as exact.
CLOSE, CLOSED = 1e-3, 1e-6
#: Optima smaller than this count as this large.
LEAST = 1e-3


def setting(network: Record, method: str) -> str:
    """With what the network is compared with others, as in the names of cells."""
    batches = USUAL[method.split(":")[0]]
    there = (str(batch) for batch in batches if f"{method} @ {batch}" in network["cells"])
    return next(there, "")


def usual(network: Record, method: str) -> Record | None:
    """A method's cell with that, if it has a time."""
    cell: Record = network["cells"].get(f"{method} @ {setting(network, method)}", {})
    return cell if "seconds" in cell else None


def solvers(network: Record) -> dict[str, Record]:
    """The cells of all that bound the network's LPs with l and u given, by name."""
    names = dict.fromkeys(
        key.split(" @ ")[0] for key in network["cells"] if key.startswith("solve: ")
    )
    cells = {name.removeprefix("solve: "): usual(network, name) for name in names}
    return {name: cell for name, cell in cells.items() if cell is not None}


def optima(network: Record) -> list[float | None]:
    """Of the LPs whose values are kept; None where no exact method has solved one."""
    cells = solvers(network)
    exact = [cells[name] for name in (*EXACT, *peers(network)) if name in cells]
    exact = [cell for cell in exact if cell["values"]]
    most = max((len(cell["values"]) for cell in exact), default=0)
    return [
        next(
            (
                cell["values"][lp]
                for cell in exact
                if lp < len(cell["values"]) and cell["values"][lp] is not None
            ),
            None,
        )
        for lp in range(most)
    ]


def peers(network: Record) -> list[str]:
    """LP solvers that are not ours, which find optima."""
    return [name for name in solvers(network) if name.startswith(("HiGHS", "Gurobi", "cvxpy"))]


def gaps(network: Record, cell: Record) -> list[float]:
    """How far its values are below the optima, relative to these; ∞ where it gave none."""
    return [
        float("inf") if value is None else max(0.0, (best - value) / max(abs(best), LEAST))
        for value, best in zip(cell["values"], optima(network), strict=False)
        if best is not None
    ]


def mean_gap(network: Record, cell: Record) -> float | None:
    found = gaps(network, cell)
    return statistics.mean(found) if found else None


def cheapest(
    network: Record, names: list[str] | tuple[str, ...], largest: float
) -> tuple[str, Record] | None:
    """The one of them that took the least time, of those whose largest gap is at most this."""
    arrived = [
        (name, cell)
        for name, cell in solvers(network).items()
        if name in names and (found := gaps(network, cell)) and max(found) <= largest
    ]
    return min(arrived, key=lambda pair: pair[1]["seconds"], default=None)
