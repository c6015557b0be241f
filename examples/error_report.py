"""The errors of `examples.evaluation` as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from bounds import BoundsError
from examples.evaluation import KINDS, Question

Errors = dict[str, Tensor]
#: What finds errors, and so bounds the robust error from below, and what bounds it from above.
COLOURS = {
    "clean": "#9aa0a6",
    "fgs": "#e8a33d",
    "pgd": "#d9703a",
    "exact": "#2f6db5",
    "fixed": "#8db4dd",
}


def percent(found: Errors, kind: str) -> float:
    return 100 * float(found[kind].double().mean())


def table(found: Errors, seconds: dict[str, float], title: str) -> Table:
    table = Table("error", "images", "percent", "seconds", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in found_kinds(found):
        row = (f"{int(found[kind].sum())}", f"{percent(found, kind):.2f}", f"{seconds[kind]:.1f}")
        table.add_row(KINDS[kind], *row)
    return table


def found_kinds(found: Errors) -> list[str]:
    return [kind for kind in KINDS if kind in found]


def write_json(path: Path, found: Errors, seconds: dict[str, float], about: dict[str, Any]) -> None:
    """about: what the figures depend on. The images of each kind are given by their indices."""
    record = about | {
        "images": len(found["clean"]),
        "errors_percent": {kind: round(percent(found, kind), 4) for kind in found_kinds(found)},
        "seconds": {kind: round(seconds[kind], 2) for kind in found_kinds(found)},
        "indices": {kind: found[kind].nonzero().flatten().tolist() for kind in found_kinds(found)},
    }
    whole = path.with_name(f"{path.name}.part")
    whole.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(whole, path)


def plot(path: Path, found: Errors, question: Question, title: str) -> None:
    """A bar an error, and as a band where the robust error lies."""
    try:
        import matplotlib
    except ImportError as error:
        raise BoundsError(
            "--plot needs matplotlib, which is not installed: pip install -e '.[plot]'."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = found_kinds(found)
    values = [percent(found, kind) for kind in kinds]
    figure, axes = pyplot.subplots(figsize=(7.2, 0.5 * len(kinds) + 1.5), layout="constrained")
    above = percent(found, "exact" if "exact" in found else "fixed")
    axes.axvspan(percent(found, "pgd"), above, color="#3c4043", alpha=0.13, linewidth=0)
    bars = axes.barh(
        [KINDS[kind] for kind in kinds],
        values,
        color=[COLOURS[kind] for kind in kinds],
        height=0.66,
        zorder=2,
    )
    for bar, value in zip(bars, values, strict=True):
        middle = bar.get_y() + bar.get_height() / 2
        axes.text(1.02, middle, f"{value:.2f} %", transform=axes.get_yaxis_transform(), va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, max(*values, 1) * 1.02)
    norm = "∞" if question.norm == float("inf") else f"{question.norm:g}"
    axes.set_xlabel(
        f"share of {len(found['clean']):,} test images in percent; ℓ{norm} radius "
        f"{question.radius:g}\nthe error under the worst attack lies in the shaded band"
    )
    axes.set_title(title, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)
