"""The errors of `examples.evaluation` as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from bounds import BoundsError, CascadeAnswer
from examples.evaluation import KINDS, Findings, Question

#: What finds errors, and so bounds the robust error from below, and what bounds it from above.
COLOURS = {
    "clean": "#9aa0a6",
    "fgs": "#e8a33d",
    "pgd": "#d9703a",
    "broken": "#b3432b",
    "complete": "#174a86",
    "exact": "#2f6db5",
    "fixed": "#8db4dd",
    "interval": "#c3d8ee",
}


def percent(found: Findings, kind: str) -> float:
    return 100 * float(found.errors[kind].double().mean())


def table(found: Findings, title: str) -> Table:
    table = Table("error", "images", "percent", "seconds", title=title)
    if found.answer is not None:
        table.caption = "attacks and LPs are of one network, and not of a cascade"
    for column in table.columns[1:]:
        column.justify = "right"
    if found.open is not None:
        table.caption = f"{int(found.open.sum())} images are left open by the search"
    for kind, name in KINDS.items():
        if kind in found.errors:
            seconds = f"{found.seconds[kind]:.1f}" if kind in found.seconds else "–"
            count = int(found.errors[kind].sum())
            table.add_row(name, f"{count}", f"{percent(found, kind):.2f}", seconds)
        elif found.answer is not None:
            table.add_row(name, "–", "–", "–")
    return table


def stages(answer: CascadeAnswer, wrong: Tensor, networks: int) -> list[dict[str, Any]]:
    """Of each network of a cascade, counted from 1, and of none: how many images it proves, and how
    many of those are answered with the wrong class, as `wrong` (images,) says."""
    return [
        {
            "network": stage + 1 if stage >= 0 else None,
            "images": int((answer.stage == stage).sum()),
            "wrong": int(((answer.stage == stage) & wrong).sum()),
        }
        for stage in (*range(networks), -1)
    ]


def stage_table(counts: list[dict[str, Any]]) -> Table:
    table = Table("proved by", "images", "of these answered wrongly")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in counts:
        name = "none" if row["network"] is None else f"network {row['network']}"
        table.add_row(name, f"{row['images']}", f"{row['wrong']}")
    return table


def write_json(path: Path, found: Findings, about: dict[str, Any]) -> None:
    """about: what the figures depend on. The images of each kind are given by their indices."""
    kinds = found_kinds(found)
    record = about | {
        "images": len(found.errors["clean"]),
        "errors_percent": {kind: round(percent(found, kind), 4) for kind in kinds},
        "seconds": {kind: round(value, 2) for kind, value in found.seconds.items()},
        "indices": {kind: found.errors[kind].nonzero().flatten().tolist() for kind in kinds},
    }
    if found.open is not None:
        record["open"] = int(found.open.sum())
        record["indices"]["open"] = found.open.nonzero().flatten().tolist()
    whole = path.with_name(f"{path.name}.part")
    whole.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(whole, path)


def found_kinds(found: Findings) -> list[str]:
    return [kind for kind in KINDS if kind in found.errors]


def plot_epochs(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """The errors on test images after each epoch, in percent, on a logarithmic axis."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    names = {
        "test_error": ("clean", "clean"),
        "attacked_error": ("pgd", "broken by PGD"),
        "certified_error": ("fixed", "not certified by the fixed slope"),
        "interval_error": ("interval", "not certified by intervals"),
    }
    epochs = [record["epoch"] for record in records]
    for name, (kind, text) in names.items():
        if name in records[-1]:
            values = [100 * record.get(name, float("nan")) for record in records]
            axes.plot(epochs, values, color=COLOURS[kind], label=text, marker=".")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"percent of {records[-1]['test_images']:,} test images")
    axes.set_ylim(0.3, 100)
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise BoundsError(
            "--plot needs matplotlib, which is not installed: pip install -e '.[plot]'."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(path: Path, found: Findings, question: Question, title: str) -> None:
    """A bar an error; and for one network, as a band, where its robust error lies."""
    pyplot = _pyplot()
    kinds = found_kinds(found)
    values = [percent(found, kind) for kind in kinds]
    figure, axes = pyplot.subplots(figsize=(7.2, 0.5 * len(kinds) + 1.5), layout="constrained")
    band = ""
    if found.answer is None:
        band = "\nthe error under the worst attack lies in the shaded band"
        below = percent(found, "broken" if "broken" in kinds else "pgd")
        above = percent(found, next(k for k in ("complete", "exact", "fixed") if k in kinds))
        axes.axvspan(below, above, color="#3c4043", alpha=0.13, linewidth=0)
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
        f"share of {len(found.errors['clean']):,} test images in percent; ℓ{norm} radius "
        f"{question.radius:g}{band}"
    )
    axes.set_title(title, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)
