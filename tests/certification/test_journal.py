"""Searches that are interrupted, killed, or out of time, and gone on with."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

import bounds
from bounds import InvalidInputError, certify, certify_vnnlib
from bounds.certification import decide, one_input, relu_splits
from bounds.deadline import Deadline
from bounds.read.vnnlib import parse_vnnlib
from bounds.read.vnnlib.property import Property
from bounds.search import journal
from bounds.search import search as boxes
from bounds.search.relu_split.tightening import Tightening
from bounds.search.search import Search
from bounds.solution.proof_file import proof_digest
from tests.certification.test_splits import twins
from tests.conftest import Run
from tests.support.proofs import Arrays, hard_property, reasons
from tests.support.referee import random_net
from tests.support.refusals import refused
from tests.support.vnnlib_texts import file, write_model

#: What is split, and the most neurons for which nodes are LPs.
SEARCHES = {
    "boxes": ("input_split", 0),
    "lps": ("relu_split", 1000),
    "slopes": ("relu_split", 0),
}


class Asked:
    """A property that is proved by a search of one kind."""

    def __init__(self, kind: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.method, small = SEARCHES[kind]
        patch.setattr(relu_splits, "SMALL", small)
        patch.setattr(journal, "SECONDS", 0.0)
        patch.setattr(journal, "SHARE", math.inf)
        self.network, self.property = hard_property()
        self.journal, self.proof, self.whole = (folder / name for name in ("j", "p", "w"))

    def __call__(self, **options: Any) -> bounds.Certification:
        given = {"method": self.method, "proof": self.proof, "journal": self.journal, **options}
        return certify_vnnlib(self.network, self.property, **given)

    def interrupted(self, batches: int) -> Search:
        """How far it is where Ctrl-C comes after so many batches."""
        told = iter(range(1, batches + 1))

        def stop(_: int, search: Search) -> None:
            if next(told) == batches:
                raise KeyboardInterrupt

        with pytest.raises(bounds.Interrupted) as caught:
            self(watch=stop)
        [search] = caught.value.partial.searches
        return search

    def contents(self) -> tuple[dict[str, Any], Arrays]:
        with safe_open(self.journal, framework="numpy") as held:
            names = held.keys()
            return json.loads(held.metadata()[journal.KEY]), {n: held.get_tensor(n) for n in names}

    def edit(self, change: Callable[[Arrays], object], *, about: str | None = None) -> None:
        """Change what the journal holds, and seal it again."""
        statement, arrays = self.contents()
        change(arrays)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        statement["digest"] = proof_digest(statement, arrays)
        save_file(arrays, self.journal, metadata={journal.KEY: json.dumps(statement)})


@pytest.fixture
def asked(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    given = getattr(request.node, "callspec", None)
    kind = "boxes" if given is None else given.params.get("kind", "boxes")
    return Asked(kind, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", SEARCHES)
def test_what_is_interrupted_goes_on(
    kind: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, to the verdict of a search that is not; and, but for LPs, whose solver
    begins anew, with the same tree. What is closed is not searched again."""
    whole = asked(proof=asked.whole, journal=None)
    domains = [asked.interrupted(batches).domains for batches in (1, 2, 3)]
    assert domains == sorted(set(domains))
    found = asked()
    assert found.verdict == whole.verdict == "unsat"
    [search], [unbroken] = found.searches, whole.searches
    assert search is not None
    assert unbroken is not None
    assert (search.ended, search.open) == ("closed", 0)
    check = bounds.check_proof(asked.proof, asked.network)
    assert check.accepted, reasons(check)
    if kind != "lps":
        assert search == unbroken
        assert asked.proof.read_bytes() == asked.whole.read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("searched again")

    for name in (
        "search.BoxSearch._close",
        "relu_split.search.ReluSearch._bound",
        "relu_split.frontier_search.FrontierSearch._handle",
    ):
        monkeypatch.setattr(f"bounds.search.{name}", never)
    content = asked.proof.read_bytes()
    asked.proof.unlink()
    assert asked().searches == found.searches
    assert asked.proof.read_bytes() == content


def test_what_is_out_of_boxes_goes_on(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word in between."""
    monkeypatch.setattr(journal, "SECONDS", 1e9)
    with monkeypatch.context() as short:
        short.setattr(one_input, "UNASKED", 40)
        [first] = asked(method="auto").searches
    [search] = asked(method="auto").searches
    assert first is not None
    assert (first.ended, first.domains >= 40) == ("domains", True)
    assert search == asked(journal=None).searches[0]


def test_a_batch_that_is_cut_short_comes_again(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the time is up, bounds are others than `check` finds anew."""
    whole = asked(proof=asked.whole, journal=None)
    bound, batches = boxes.bound, iter(range(3))

    def cut_short(question: Any, domains: Any, deadline: Deadline) -> Any:
        deadline.noticed = next(batches) == 2
        return bound(question, domains, deadline)

    with monkeypatch.context() as short:
        short.setattr(boxes, "bound", cut_short)
        [first] = asked().searches
    assert first is not None
    assert first.ended == "time"
    assert asked().searches == whole.searches
    assert asked.proof.read_bytes() == asked.whole.read_bytes()


def test_a_counterexample_is_found_after_all(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same random numbers as in one go."""
    monkeypatch.setattr(decide.Escalation, "_search", lambda *_: None)
    asked.network, asked.property = hard_property(-1e-9)
    whole = asked(journal=None)
    assert whole.methods == ("input_split",)
    asked.interrupted(3)
    found = asked()
    assert (found.verdict, whole.verdict) == ("sat", "sat")
    assert found.searches == whole.searches
    points = [found.counterexamples[0], whole.counterexamples[0]]
    assert points[0] is not None
    assert points[1] is not None
    assert torch.equal(points[0].x, points[1].x)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    page = journal.Journal(tmp_path / "j", {}).page("one", generator)
    page.keep(dict, ended=True)
    numbers = torch.rand(2, 4, generator=generator)
    assert page.resume(lambda columns: None)
    assert torch.equal(torch.rand(2, 4, generator=generator), numbers)


def test_each_input_has_its_own(asked: Asked) -> None:
    model, x = twins()
    options: dict[str, Any] = {"radius": 0.1, "journal": asked.journal}

    def stop(number: int, search: Search) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(bounds.Interrupted):
        certify(model, x.expand(2, 1), 0, watch=stop, **options)
    told: list[int] = []
    found = certify(model, x.expand(2, 1), 0, watch=lambda i, _: told.append(i), **options)
    assert found.verdicts == ("unsat", "unsat")
    assert set(told) == {1}


# -- what is refused -------------------------------------------------------------------------------


def test_a_journal_of_something_else(asked: Asked) -> None:
    asked.interrupted(2)
    before = asked.journal.read_bytes()
    other, _ = hard_property()
    with torch.no_grad():
        next(iter(other.parameters)).mul_(2)
    lower = Property(**{**vars(asked.property), "cases": asked.property.cases[:0]})
    for changed, name in (
        ({"seed": 1}, "seed (0, not 1)"),
        ({"method": "relu_split"}, "method (input_split, not relu_split)"),
        ({"proof": None}, "proof (kept, not none)"),
        ({"dtype": torch.float32}, "dtype (torch.float64, not torch.float32)"),
    ):
        refused(lambda c=changed: asked(**c), InvalidInputError, "'", f"other {name}")  # type: ignore[misc]
    refused(
        lambda: certify_vnnlib(other, asked.property, journal=asked.journal, proof=asked.proof,
                               method="input_split"),
        InvalidInputError, "other network", "choose another file",
    )  # fmt: skip
    refused(
        lambda: certify_vnnlib(asked.network, lower, journal=asked.journal, proof=asked.proof,
                               method="input_split"),
        InvalidInputError, "other property",
    )  # fmt: skip
    refused(lambda: certify(twins()[0], twins()[1], 0, radius=0.1, journal=asked.journal),
            InvalidInputError, "other call (certify_vnnlib, not certify)")  # fmt: skip
    refused(lambda: asked(proof=asked.journal), InvalidInputError, "one path as proof and journal")
    refused(lambda: asked(journal=3), InvalidInputError, "certify_vnnlib(journal) got 3")
    assert asked.journal.read_bytes() == before


@pytest.mark.parametrize("kind", ["slopes"])
def test_a_disk_that_is_full_at_the_end(
    kind: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is lost, and not the verdict."""
    assert asked.method == "relu_split", kind  # whose root is noted in any case

    def full(path: str, _: bytes) -> None:
        if asked.journal.exists():
            raise InvalidInputError(f"cannot write {path}: no space")
        asked.journal.touch()

    monkeypatch.setattr(journal, "SECONDS", 1e9)
    monkeypatch.setattr(journal, "write_file", full)
    with pytest.warns(UserWarning, match="no space"):
        assert asked().verdict == asked(journal=None).verdict != "unknown"


def test_of_other_inputs_or_rows(tmp_path: Path) -> None:
    model, x = twins()
    path = tmp_path / "j"
    certify(model, x, 0, radius=0.1, journal=path)
    before = path.read_bytes()
    row = bounds.Specification(torch.tensor([[1.0, -1.0]]).double())
    for changed, name in (({"radius": 0.2}, "inputs"), ({"rows": row, "y": None}, "rows")):
        options: dict[str, Any] = {"y": 0, "radius": 0.1, "journal": path, **changed}
        refused(lambda o=options: certify(model, x, **o), InvalidInputError, f"other {name}")  # type: ignore[misc]
    assert path.read_bytes() == before


def test_files_that_are_damaged(asked: Asked, tmp_path: Path) -> None:
    """Each in one line, and none is written over."""
    asked.interrupted(2)
    good = asked.journal.read_bytes()
    at = [8, len(good) // 2, len(good) - 1]
    flipped = [good[:k] + bytes([good[k] ^ 64]) + good[k + 1 :] for k in at]
    for bad in (b"", b"nothing", good[:-1], good[: len(good) // 2], good + b"x", *flipped):
        asked.journal.write_bytes(bad)
        refused(asked, InvalidInputError, "journal=")
        assert asked.journal.read_bytes() == bad
    refused(lambda: asked(journal=tmp_path), InvalidInputError, "not a regular file")
    asked(proof=asked.whole, journal=None)
    refused(lambda: asked(journal=asked.whole), InvalidInputError, "holds something else")
    refused(lambda: asked(journal=tmp_path / "no" / "j"), InvalidInputError, "cannot write")


def drop_last_open(arrays: Arrays) -> None:
    for name in ("lower", "upper", "disjunct", "worst", "node", "signs", "share"):
        arrays[f"0.boxes/{name}"] = arrays[f"0.boxes/{name}"][:-1]
    arrays["0.boxes/parts"] = arrays["0.boxes/parts"].copy()
    arrays["0.boxes/parts"][-1] -= 1


def test_boxes_that_do_not_fit(asked: Asked) -> None:
    asked.interrupted(4)
    good = asked.journal.read_bytes()
    edits: dict[str, Callable[[Arrays], object]] = {
        "an open box is forgotten": drop_last_open,
        "columns are missing": lambda a: a.pop("0.boxes/signs"),
        "another type": lambda a: a.update({"0.boxes/lower": a["0.boxes/lower"].astype("f4")}),
        "another shape": lambda a: a.update({"0.boxes/upper": a["0.boxes/upper"][:, :2]}),
    }
    for name, edit in edits.items():
        asked.journal.write_bytes(good)
        asked.edit(edit)
        refused(asked, InvalidInputError, "does not hold")
        assert asked.journal.exists(), name


@pytest.mark.parametrize("kind", ["lps", "slopes"])
def test_refutations_are_proved_again(kind: str, asked: Asked) -> None:
    """And trees follow from these: nothing that was not refuted is closed."""
    asked.interrupted(12 if kind == "lps" else 5)
    good, page = asked.journal.read_bytes(), "0.relus.0/"
    assert len(asked.contents()[1][page + "nu"]) > 1

    def changed(name: str, change: Callable[[np.ndarray], object]) -> Callable[[Arrays], object]:
        return lambda arrays: change(arrays[page + name])

    edits = {
        "multipliers": changed("nu", lambda a: a.fill(0.0)),
        "weights": changed("weights", lambda a: np.negative(a, out=a)),
        "counts": lambda a: a.update({page + "counts": a[page + "counts"].astype("f8")}),
        "needs nothing": lambda a: a.update(
            {page + "phases": 0 * a[page + "phases"], page + "literals": a[page + "literals"][:0]}
        ),
        "the other phase": changed("literals", lambda a: np.negative(a[:, 1], out=a[:, 1])),
        "not a number": changed("nu", lambda a: a.fill(np.nan)),
        "closed": changed("counts", lambda a: a.__setitem__(-1, 0)),
    }
    if kind == "lps":
        # Of what both have in common, only how it is reached differs.
        edits = {name: edits[name] for name in ("multipliers", "closed")}
        edits["other phases"] = changed("trail", lambda a: np.negative(a[:, 1], out=a[:, 1]))
    else:
        edits["nothing open"] = changed("open", lambda a: a.fill(0))
        edits["other phases"] = changed("side", lambda a: np.negative(a, out=a))
        edits["another side"] = changed("side", lambda a: a.__setitem__(-1, a[-2]))
    for name, edit in edits.items():
        asked.journal.write_bytes(good)
        asked.edit(edit)
        try:
            found = asked()
        except InvalidInputError as error:
            assert "does not hold" in str(error), name  # noqa: PT017
        else:
            # What is closed is closed by phases that hold there: it may still be a proof.
            assert name == "other phases"
            assert bounds.check_proof(asked.proof, asked.network).accepted
            assert found.verdict == "unsat"


# -- the command line ------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from bounds.cli import main
from bounds.search import journal

journal.SECONDS, journal.SHARE = 0.0, float("inf")
write, written = journal.Journal.write, []

def once_more(self):
    write(self)
    written.append(1)
    if len(written) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.write = once_more
main()
"""


def test_killed_and_started_again(run: Run, tmp_path: Path) -> None:
    path, spec = tmp_path / "journal", tmp_path / "spec.vnnlib"
    # y = 0, but the LP takes its two neurons for different ones.
    model = write_model(tmp_path / "model.onnx", W=((1.0, 1.0), (1.0, 1.0)))
    box = [(">=", ("X", k), "-1") for k in range(2)] + [("<=", ("X", k), "2") for k in range(2)]
    spec.write_text(file([*box, (">=", ("Y", 0), "0.01")], inputs=2, outputs=1))
    proof = tmp_path / "proof"
    given = ["certify", model, "--vnnlib", spec, "--proof", proof, "--journal", path]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, given)], check=False)
    assert killed.returncode == -9
    assert not proof.exists()
    status, out, err = run(*given, "--seed", 1)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "other seed (0, not 1)" in err
    status, out, _ = run(*given)
    assert (status, out.splitlines()[0]) == (0, "unsat")
    assert run("check", proof, model, "--vnnlib", spec)[0] == 0


@pytest.mark.parametrize("kind", ["lps", "slopes"])
def test_what_has_refuted_nothing_yet_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(kind, tmp_path, monkeypatch)
    monkeypatch.setattr(Tightening, "run", lambda *_: None)  # which closes the root
    network = random_net(4, 24, 24, 1, seed=3)
    x = torch.zeros(1, 4, dtype=torch.float64)
    at = torch.rand(2000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    least = network(2 * at - 1).min()
    rows = bounds.Specification(torch.ones(1, 1).double(), (0.3 - least).reshape(1))

    def search(**options: Any) -> bounds.Certification:
        return certify(
            network, x, rows=rows, radius=1.0, method="relu_split", journal=asked.journal, **options
        )

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(bounds.Interrupted):
        search(watch=stop, timeout=60)
    _, arrays = asked.contents()
    assert not any(array.size for name, array in arrays.items() if name.endswith("nu"))
    assert (
        search(timeout=60).verdicts
        == certify(network, x, rows=rows, radius=1.0, method="relu_split", timeout=60).verdicts
    )


@pytest.mark.parametrize("kind", ["lps", "slopes"])
def test_networks_without_unstable_neurons_have_journals(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows that no pass of one excludes."""
    asked = Asked(kind, tmp_path, monkeypatch)
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[0].bias.fill_(5.0)
        model[2].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([-5.2, 5.4]))
    asked.network = bounds.from_torch(model, (1,)).detach()
    asked.property = parse_vnnlib(
        "(declare-const X_0 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)"
        "(assert (>= X_0 -1)) (assert (<= X_0 1)) (assert (<= Y_0 0)) (assert (<= Y_1 0))"
    )
    assert asked().verdict == asked(journal=None).verdict == "unsat"
