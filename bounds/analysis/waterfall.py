"""The picture of an attribution."""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bounds.files import write_file

STEPS = ("slope", "l and u", "triangles")
COLOURS = ("#d55e00", "#e69f00", "#0072b2")


def draw(
    path: str | os.PathLike[str],
    stages: Sequence[tuple[float, float]],
    costs: Mapping[str, float],
    title: str,
) -> None:
    """stages: what the bound, both LP optima and the true minimum lie between. costs: by the
    name of what costs something."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for number, (before, after) in enumerate(itertools.pairwise(stages)):
        place, colour = number + 1, COLOURS[number]
        start, sure, most = before[0], max(after[0], before[0]), after[1]
        left.bar(place, sure - start, bottom=start, width=0.6, color=colour)
        if math.isfinite(most) and most > sure:
            left.bar(
                *(place, most - sure, 0.6, sure),
                facecolor="none",
                edgecolor=colour,
                hatch="///",
            )
        top = most if math.isfinite(most) else sure
        label = f"+{sure - start:.3g}"
        if most - sure > 1e-3 * max(1e-9, top - stages[0][0]):
            label += f" … +{most - start:.3g}" if math.isfinite(most) else " or more"
        left.annotate(
            label, (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=9
        )
        left.plot((place - 0.7, place + 0.3), (start, start), color="0.5", linewidth=0.8)
    left.plot((3.3, 4.3), (stages[-1][0],) * 2, color="0.5", linewidth=0.8)
    for place, ends in ((0, stages[0]), (4, stages[-1])):
        marked = sorted({f"{end:+.4g}": end for end in ends if math.isfinite(end)}.items())
        for text, value in marked:
            left.plot((place - 0.3, place + 0.3), (value, value), color="black", linewidth=2)
            left.annotate(text, (place, value), (0, 4), textcoords="offset points", ha="center")
    left.set_xticks(range(5), ("fixed slope", *STEPS, "true minimum"))
    left.use_sticky_edges = False  # bars would end the axis where they do
    left.margins(y=0.12)
    left.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    left.set(ylabel="lower bound of the row", title=f"What the bound loses ({title})")
    right.barh(range(len(costs)), list(costs.values()), color=COLOURS[-1])
    right.set_yticks(range(len(costs)), costs)
    right.invert_yaxis()
    right.set(xlabel="cost", ylabel="ReLU [neuron]", title="What costs most")
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:].lower(), dpi=150)
    write_file(path, content.getvalue())
