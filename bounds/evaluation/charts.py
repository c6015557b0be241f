"""The drawings of a report, as text that an HTML page holds itself."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: What stands for the colour of the page's text, which is another one in the dark.
INK = "#010203"
#: Told apart by eyes that tell fewer colours apart, too, and by markers: clean, attacked, proofs.
LINES = (("#777777", ""), ("#d55e00", "v"), ("#0072b2", "o"), ("#009e73", "s"), ("#cc79a7", "D"))
#: Pixels of a side of a picture, at most.
LARGEST = 512


def accuracy_chart(radii: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """Percentages against radii, a line each by its name, as an SVG element."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # in the fonts of the page
        "svg.hashsalt": "bounds",  # the same picture is the same text
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color", "legend.labelcolor"), INK),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        for (name, values), (colour, marker) in zip(lines.items(), LINES, strict=True):
            axes.plot(radii, values, color=colour, marker=marker, label=name, linewidth=2)
        axes.set(xlabel="radius", ylabel="% of images", ylim=(-3, 103))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="best")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', svg, count=1)


def pixels_of(x: np.ndarray, shape: Sequence[int]) -> np.ndarray | None:
    """The numbers of an input as (height, width) or (height, width, 3); None for what is no image:
    neither one nor three channels, nor a flat square."""
    match tuple(shape):
        case (3, height, width):
            return np.moveaxis(x.reshape(3, height, width), 0, 2)
        case (1, height, width) | (height, width):
            return x.reshape(height, width)
        case (count,) if (side := math.isqrt(count)) ** 2 == count:
            return x.reshape(side, side)
    return None


def picture(pixels: np.ndarray, low: float, high: float) -> str:
    """The address of a PNG that is the address's own text; `low` is black and `high` white."""
    from matplotlib import image

    shown = np.clip((pixels - low) / max(high - low, 1e-30), 0, 1)[:LARGEST, :LARGEST]
    colours = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
    file = io.BytesIO()
    image.imsave(file, np.round(255 * colours).astype(np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
