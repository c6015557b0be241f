"""`bounds.report`: one page about an evaluation, made of its database alone."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from fractions import Fraction
from importlib import resources
from importlib.util import find_spec
from typing import Any

import numpy as np

from bounds.arguments import shown
from bounds.errors import BoundsError, InvalidInputError
from bounds.evaluation.charts import accuracy_chart, picture, pixels_of
from bounds.evaluation.result import KIND, KINDS
from bounds.evaluation.store import CENTRE, NUMBERS, Store
from bounds.files import write_file

#: How many of each there are on the page at most.
SLOWEST, CLOSEST, PAIRS = 10, 20, 24

_PROVED = ",\n  ".join(
    "sum(status = 'proved' AND method IN ({}))".format(
        ", ".join(f"'{method}'" for method, of in KIND.items() if of == kind)
    )
    for kind in KINDS
)
#: What each part of the page shows: these very queries, which the page shows too.
QUERIES = {
    "clean": "SELECT count(*), sum(answer = label) FROM images",
    "radii": f"""SELECT radius, sum(status = 'proved'),
  {_PROVED},
  sum(status = 'attacked'), sum(status = 'wrong'), sum(status = 'open')
FROM results GROUP BY radius ORDER BY radius""",
    "open": """SELECT radius, method, coalesce(ended, ''), count(*), max(coalesce(worst, lower)),
  min(coalesce(worst, lower)), sum(seconds)
FROM results WHERE status = 'open' GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC""",
    "classes": """SELECT label, sum(status = 'open'), sum(status = 'attacked'),
  sum(status = 'proved'), sum(status = 'wrong')
FROM results JOIN images USING (image) GROUP BY label ORDER BY label""",
    "closest": f"""SELECT image, name, label, radius, method, lower, worst, domains, "left", ended,
  seconds
FROM results JOIN images USING (image) WHERE status = 'open'
ORDER BY coalesce(worst, lower) DESC LIMIT {CLOSEST}""",
    "slowest": f"""SELECT image, name, label, sum(seconds), group_concat(status, ', ')
FROM (SELECT * FROM results ORDER BY image, radius) JOIN images USING (image)
GROUP BY image ORDER BY 4 DESC, image LIMIT {SLOWEST}""",
    "pairs": f"""SELECT image, name, label, points.answer, min(radius), points.x, centre.x
FROM points JOIN images USING (image)
  JOIN (SELECT image, x FROM points WHERE radius = {CENTRE}) AS centre USING (image)
WHERE radius != {CENTRE} GROUP BY image ORDER BY min(radius), image LIMIT {PAIRS}""",
}


def report(
    results: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
) -> None:
    """Write an HTML page that needs no other file and no network.

    It has the accuracy against the radius (clean, attacked, certified by one pass, LPs and
    searches), where open images are lost, the slowest ones, and counterexamples beside their
    images; and with every number the query of the database that it is from.

    Args:
        results: the database that `evaluate` wrote, or several of parts of the same evaluation.
            One that is being written will do.
        output: the path of the page.

    Raises:
        InvalidInputError: what is no such database, or of different evaluations, or cannot be
            written.
        BoundsError: Jinja2 or matplotlib, the extra `report`, are missing.

    >>> import torch, bounds
    >>> x, y = torch.eye(4), torch.arange(4)
    >>> found = bounds.evaluate(torch.nn.Identity(), x, y, radii=[0.6], results="run.sqlite")
    >>> report("run.sqlite", "run.html")
    >>> "counterexample" in open("run.html").read()
    True
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise BoundsError(
            f"a report needs {' and '.join(missing)}, not installed here: pip install "
            "'relu-bounds[report]'."
        )
    from jinja2 import Environment, StrictUndefined

    paths = [results] if isinstance(results, (str, os.PathLike)) else results
    if not isinstance(paths, Sequence) or not paths:
        raise InvalidInputError(
            f"report(results) got {shown(results)}, expected the path of a database, or several."
        )
    store = _together(paths)
    try:
        template = resources.files("bounds").joinpath("evaluation", "report.html.j2")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        page = environment.from_string(template.read_text(encoding="utf-8"))
        write_file(output, page.render(_contents(store)).encode())
    finally:
        store.close()


def _together(paths: Sequence[str | os.PathLike[str]]) -> Store:
    """All of them as one, in memory."""
    whole, radii = Store(None), dict[Fraction, str]()
    with contextlib.ExitStack() as stack:
        parts = [
            stack.enter_context(contextlib.closing(Store(path, reading=True))) for path in paths
        ]
        for part in parts:
            radii |= part.radii()
        radii = dict(sorted(radii.items()))
        for part in parts:
            same, named = part.about("same"), part.about("shown")
            assert same is not None
            assert named is not None
            part.follow(radii)
            del same["radii"]
            whole.claim(same, named, radii)
            whole.add_images(part.images())
            whole.add(part.results(), part.points())
    return whole


def _contents(store: Store) -> dict[str, Any]:
    """What the template shows."""
    same, named = store.about("same"), store.about("shown")
    assert same is not None
    assert named is not None
    rows = {name: store.query(query) for name, query in QUERIES.items()}
    [(images, right)] = rows["clean"]
    radii = [float(Fraction(radius)) for radius in same["radii"]]
    return {
        "same": same,
        "named": named,
        "radii": named["radii"],
        "kinds": list(KINDS.values()),
        "images": images,
        "right": right or 0,
        "queries": QUERIES,
        "rows": rows,
        "done": sum(sum(row[1:2] + row[5:]) for row in rows["radii"]),
        "chart": _chart(radii, images, right or 0, rows["radii"]),
        "pairs": [_pair(row, same, named, radii) for row in rows["pairs"]],
    }


def _chart(radii: Sequence[float], images: int, right: int, rows: Sequence[Any]) -> str:
    """Of the radii at which every image was done."""
    done = [row for row in rows if sum((row[1], *row[5:])) == images]

    def share(count: int) -> float:
        return 100 * count / images

    lines = {
        "clean": [share(right) for _ in done],
        "not attacked": [share(right - row[5]) for row in done],
    }
    for last, name in enumerate(KINDS.values()):
        label = f"certified by {name}" if last == 0 else f"… or by {name}"
        lines[label] = [share(sum(row[2 : 3 + last])) for row in done]
    return accuracy_chart([radii[row[0]] for row in done], lines)


def _pair(
    row: Sequence[Any], same: dict[str, Any], named: dict[str, Any], radii: Sequence[float]
) -> dict[str, Any]:
    """An image, its counterexample, and what was added: mid grey is nothing."""
    image, name, label, answer, radius, moved, centre = row
    before, after = (
        pixels_of(np.frombuffer(x, NUMBERS), named["input_shape"]) for x in (centre, moved)
    )
    found = {"image": image, "name": name, "label": label, "answer": answer, "radius": radius}
    if before is None or after is None:
        return {**found, "pictures": None}
    ends = same["box"]
    low = float(min(before.min(), after.min())) if ends[0] is None else ends[0]
    high = float(max(before.max(), after.max())) if ends[1] is None else ends[1]
    most = radii[radius] if same["norm"] == "inf" else float(np.abs(after - before).max())
    most = most if most > 0 and math.isfinite(most) else 1.0
    return {
        **found,
        "pictures": [
            picture(before, low, high),
            picture(after, low, high),
            picture(after - before, -most, most),
        ],
    }
