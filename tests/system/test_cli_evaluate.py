"""`bounds evaluate` and `bounds report`: what they print and write, kills, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bounds
from bounds.evaluation import report as report_module
from bounds.models import load_digits_images
from tests.conftest import CHECKOUT, Run

RADII = ("--radius", "1/64", "0.1", "--clip", "0", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = load_digits_images()
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, images=x[:5].numpy(), labels=y[:5].numpy())
    return path


@pytest.fixture(scope="module")
def database(data: Path) -> Path:
    """Of five digits that are answered rightly and one that is not."""
    x, y = load_digits_images()
    path = data.with_name("run.sqlite")
    y = y[:6].clone()
    y[5] = (y[5] + 1) % 10
    model = bounds.models.load_digits_model("digits_robust")
    bounds.evaluate(
        model, x[:6], y, radii=["1/64", "0.1", "0.3"], lower=0.0, upper=1.0, method="no_split",
        results=path, title="<digits> & more", names=["a<b", *"bcdef"],
    )  # fmt: skip
    return path


def test_what_is_printed_and_written(run: Run, data: Path, tmp_path: Path) -> None:
    numbers, lines, results = (tmp_path / name for name in ("out.json", "out.csv", "run.sqlite"))
    command = ("evaluate", "digits_robust", "--data", data, *RADII, "--results", results)
    status, out, err = run(*command, "--json", numbers, "--csv", lines)
    assert (status, err) == (0, "")
    assert out.startswith("5 images, within [0, 1]\nclean accuracy: 5 of 5 images, 100.00 %\n")
    record = json.loads(numbers.read_text())
    assert (record["images"], record["right"], record["clip"]) == (5, 5, [0.0, 1.0])
    assert [radius["radius"] for radius in record["radii"]] == ["1/64", "0.1"]
    with lines.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["results"]) == 10
    for row, result in zip(rows, record["results"], strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in result.items()}
    # The same command has nothing left to do, and says the same.
    before = numbers.read_text()
    assert run(*command, "--json", numbers, "--csv", lines) == (0, out, "")
    assert numbers.read_text() == before
    refused = run(*command, "--seed", "1")
    assert (refused[0], refused[1].count("\n"), refused[2].count("\n")) == (2, 1, 1)
    assert "other seed (0, not 1)" in refused[2]


def test_a_warning_where_images_are_not_scaled(run: Run, tmp_path: Path) -> None:
    x, y = load_digits_images()
    np.savez(tmp_path / "a.npz", images=-x.numpy() * 255, labels=y.numpy())
    status, out, err = run(
        "evaluate", "digits_robust", "--data", tmp_path / "a.npz", "--radius", "0"
    )
    assert status == 0
    assert "no box" in out
    assert "warning:" in err
    assert "scaled" in err


def test_killed_and_started_again(data: Path, tmp_path: Path) -> None:
    """SIGKILL, to it and so to its workers, after whatever it had done by then."""
    results = tmp_path / "run.sqlite"
    command = [
        sys.executable, "-m", "bounds", "evaluate", "digits_robust", "--data", str(data),
        *RADII, "--results", str(results), "--jobs", "2",
    ]  # fmt: skip
    count = "SELECT count(*) FROM results"

    def done() -> int:
        try:
            with sqlite3.connect(f"file:{results}?mode=ro", uri=True) as db:
                return int(db.execute(count).fetchone()[0])
        except sqlite3.Error:  # not there yet
            return 0

    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not done() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # its workers are gone as well, or this would not end
    with sqlite3.connect(results) as db:
        before = set(db.execute("SELECT * FROM results"))
    assert before
    finished = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    with sqlite3.connect(results) as db:
        after = set(db.execute("SELECT * FROM results"))
    assert before <= after  # to the seconds that each took
    assert len(after) == 10


def test_ctrl_c_keeps_all(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bounds.evaluation.work.certify", stopped)
    results = tmp_path / "run.sqlite"
    command = ("evaluate", "digits_robust", "--data", data, "--radius", "0.01", "0.3")
    status, _, err = run(*command, "--results", results)
    assert (status, err.count("\n")) == (130, 1)
    assert f"all results until now are in {results}" in err
    with sqlite3.connect(results) as db:
        [[count]] = db.execute("SELECT count(*) FROM results WHERE status = 'proved'")
    assert count == 5
    assert "nothing is kept" in run(*command)[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--radius", "x"), "'x'"),
        (("--radius", "0.1", "--shard", "1"), "--shard"),
        (("--radius", "0.1", "--shard", "9/9"), "shard"),
        (("--radius", "0.1", "--mean", "1", "2"), "2 numbers"),
        (("--radius", "0.1", "--labels", "nowhere.npy"), "nowhere.npy"),
        (("--radius", "0.1", "--results", "no/folder.sqlite"), "no/folder.sqlite"),
        (("--radius", "0.1", "--jobs", "0"), "jobs"),
        ((), "--radius"),
    ],
)
def test_one_line_of_what_is_wrong(
    run: Run, data: Path, arguments: tuple[str, ...], says: str
) -> None:
    status, _, err = run("evaluate", "digits_robust", "--data", data, *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err


# -- the page


def page(run: Run, path: Path, *databases: Path) -> str:
    assert run("report", *databases, "-o", path) == (0, "", "")
    return path.read_text(encoding="utf-8")


def test_the_page_is_of_the_database_and_of_nothing_else(
    run: Run, database: Path, tmp_path: Path
) -> None:
    text = page(run, tmp_path / "run.html", database)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*|@import|url\((?!#)""", text)
    assert "<digits>" not in text
    assert "&lt;digits&gt; &amp; more" in text
    assert "a<b" not in text
    cells = [
        re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", text, flags=re.DOTALL)
    ]
    radii = ("1/64", "0.1", "0.3")
    with sqlite3.connect(database) as db:
        for row in db.execute(report_module.QUERIES["radii"]):
            assert [radii[row[0]], *map(str, row[1:])] in cells
        [[attacked]] = db.execute(
            "SELECT count(DISTINCT image) FROM results WHERE status = 'attacked'"
        )
    assert text.count("<figure>") == attacked > 0
    assert text.count('src="data:image/png') == 3 * attacked


def test_parts_are_one_page(run: Run, tmp_path: Path) -> None:
    x, y = load_digits_images()
    model = bounds.models.load_digits_model("digits_robust")
    paths = [tmp_path / f"{part}.sqlite" for part in (1, 2, 3)]
    for part, path in enumerate(paths, 1):
        bounds.evaluate(model, x, y, radii=["1/64"], shard=(part, 3), results=path)
    assert "16 of 16 images" in page(run, tmp_path / "all.html", *paths)
    assert "6 of 16 images" in page(run, tmp_path / "one.html", paths[0])


def test_radii_that_were_added_are_on_the_page(run: Run, tmp_path: Path) -> None:
    """In rising order, also where one part has not got them yet."""
    x, y = load_digits_images()
    model = bounds.models.load_digits_model("digits_robust")
    paths = [tmp_path / f"{part}.sqlite" for part in (1, 2)]
    for part, path in enumerate(paths, 1):
        bounds.evaluate(model, x, y, radii=["1/8"], shard=(part, 2), results=path)
    found = bounds.evaluate(model, x, y, radii=["1/64"], shard=(1, 2), results=paths[0])
    text = page(run, tmp_path / "all.html", *paths)
    assert "24 of 32 results are in" in text
    small, large = (text.index(f"<tr><td>{radius}</td>") for radius in ("1/64", "1/8"))
    assert small < large
    row = found.rows[0]
    assert (row.radius, row.missing) == ("1/64", 0)
    assert f"<tr><td>1/64</td><td>{row.certified}</td>" in text


def test_no_page_of_what_is_no_evaluation(run: Run, database: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    bounds.evaluate(
        bounds.models.load_digits_model("digits_robust"), *load_digits_images(), radii=[0],
        results=tmp_path / "other.sqlite",
    )  # fmt: skip
    sqlite3.connect(tmp_path / "empty").close()
    for databases, says in (
        ([tmp_path / "nowhere"], "there is no database"),
        ([tmp_path / "text"], "not a database"),
        ([tmp_path / "empty"], "of something else"),
        ([database, tmp_path / "other.sqlite"], "other box"),
    ):
        status, out, err = run("report", *databases, "-o", tmp_path / "page.html")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err
    assert not (tmp_path / "page.html").exists()
    assert run("report", database, "-o", tmp_path / "no" / "page.html")[0] == 2


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")])
def test_a_browser_shows_it(
    run: Run, database: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    """In a window of that width, nothing is wider than it but tables, which scroll by themselves;
    the background is dark where that is asked for, and every picture is one."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no headless browser: chromium is not installed")
    text = page(run, tmp_path / "run.html", database)
    # The window of a headless browser has a least width; a frame within it has any.
    look = """<script>addEventListener("load", () => {
      const frame = document.querySelector("iframe");
      const of = [frame.contentWindow, frame.contentDocument];
      const page = of[1].documentElement;
      document.body.dataset.seen = JSON.stringify({
        wide: page.scrollWidth, back: of[0].getComputedStyle(of[1].body).backgroundColor,
        pictures: [...of[1].images].every(image => image.naturalWidth > 0),
        chart: of[1].querySelector("svg").getBoundingClientRect().height,
        figures: of[1].querySelectorAll("figure").length}); });</script>"""
    quoted = text.replace("&", "&amp;").replace('"', "&quot;")
    style = f"color-scheme: {scheme}; width: {width}px; height: 800px; border: 0"
    (tmp_path / "look.html").write_text(
        f'<!DOCTYPE html><html style="color-scheme: {scheme}"><body>{look}'
        f'<iframe style="{style}" srcdoc="{quoted}"></iframe></body></html>'
    )
    shown = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom",
            (tmp_path / "look.html").as_uri(),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    [found] = re.findall(r'data-seen="(.*?)"', shown.stdout)
    seen = json.loads(found.replace("&quot;", '"'))
    assert seen["wide"] == width
    assert seen["pictures"]
    assert seen["chart"] > 150
    assert seen["figures"] == text.count("<figure>")
    assert seen["back"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[scheme]
