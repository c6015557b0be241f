"""VNN-LIB files against their meaning: formulas evaluated directly, and files read by hand."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bounds import InvalidInputError, from_onnx
from bounds.read.vnnlib import Property, parse_vnnlib, read_vnnlib
from bounds.read.vnnlib.property import Interval
from tests.support.vnnlib_texts import INPUTS, NUMBERS, OUTPUTS, Formula, assertions, file, holds

FAMILIES = ("acasxu", "cifar10_resnet", "collins_rul_cnn", "mnistfc", "rl_benchmarks", "test")

coordinates = st.sampled_from(
    [*(float(n) for n in NUMBERS), math.nextafter(0.1, 1), math.nextafter(0.5, 0), -1.7]
)


def counterexample(property: Property, x: Tensor, y: Tensor) -> bool:
    return any(case.contains(x) and case.violated_by(y) for case in property.cases)


@given(
    assertions(),
    st.lists(st.tuples(*[coordinates] * (INPUTS + OUTPUTS)), min_size=8, max_size=8),
)
def test_a_property_means_what_its_formulas_say(
    formulas: list[Formula], points: list[tuple[float, ...]]
) -> None:
    expected = [
        all(
            holds(formula, [*map(Fraction, p[:INPUTS])], [*map(Fraction, p[INPUTS:])])
            for formula in formulas
        )
        for p in points
    ]
    try:
        property = parse_vnnlib(file(formulas))
    except InvalidInputError:  # of all boxes being empty, as another test says
        assert not any(expected)
        return
    assert (property.inputs, property.outputs) == (INPUTS, OUTPUTS)
    x, y = torch.tensor(points, dtype=torch.float64).split([INPUTS, OUTPUTS], dim=1)
    assert [counterexample(property, *point) for point in zip(x, y, strict=True)] == expected


decimals = st.decimals(-100, 100, places=20).map(str) | st.floats(-1e3, 1e3, width=32).map(repr)


def box(lower: str, upper: str, comparisons: tuple[str, str] = (">=", "<=")) -> Property:
    below, above = comparisons
    return parse_vnnlib(
        file([(below, ("X", 0), lower), (above, ("X", 0), upper), ("<=", ("Y", 0), "0")], 1, 1)
    )


@given(decimals, decimals, st.sampled_from([torch.float32, torch.float64]))
def test_boxes_grow_for_proofs_and_shrink_for_counterexamples(
    one: str, other: str, dtype: torch.dtype
) -> None:
    lower, upper = sorted((one, other), key=Fraction)
    [case] = box(lower, upper).cases
    number = np.float32 if dtype == torch.float32 else np.float64

    def next_to(end: Tensor, towards: float) -> Fraction:
        return Fraction(float(np.nextafter(number(end.item()), number(towards))))

    below, above = case.outer(dtype)
    assert below.dtype == above.dtype == dtype
    assert Fraction(below.item()) <= Fraction(lower) < next_to(below, math.inf)
    assert next_to(above, -math.inf) < Fraction(upper) <= Fraction(above.item())
    low, high = case.inner(dtype)
    assert next_to(low, -math.inf) < Fraction(lower) <= Fraction(low.item())
    assert Fraction(high.item()) <= Fraction(upper) < next_to(high, math.inf)


def test_open_ends_are_no_counterexamples() -> None:
    [case] = box("0.5", "1", (">", "<")).cases
    low, high = case.inner(torch.float32)
    assert low.item() == np.nextafter(np.float32(0.5), np.float32(1))
    assert high.item() == np.nextafter(np.float32(1), np.float32(0))
    assert [end.item() for end in case.outer()] == [0.5, 1.0]
    assert not case.contains(torch.tensor([0.5]))
    assert not case.contains(torch.tensor([1.0]))
    assert case.contains(low)
    assert case.contains(high)


def test_of_several_bounds_the_tightest_says_whether_the_end_is_open() -> None:
    bounds = [(">", "0"), (">=", "0.5"), ("<", "2"), ("<=", "1")]
    for extra, inside in (([], True), ([(">", "0.5"), ("<", "1")], False)):
        formulas = [(comparison, ("X", 0), end) for comparison, end in [*bounds, *extra]]
        for order in (formulas, formulas[::-1]):
            [case] = parse_vnnlib(file([*order, ("<=", ("Y", 0), "0")], 1, 1)).cases
            for end in (0.5, 1.0):
                assert case.contains(torch.tensor([end])) is inside


def test_no_float_is_0_1() -> None:
    [case] = box("0.1", "0.1").cases
    for dtype in (torch.float32, torch.float64):
        low, high = case.inner(dtype)
        assert low > high
    assert [repr(end.item()) for end in case.outer()] == ["0.09999999999999999", "0.1"]
    assert not case.contains(torch.tensor([0.1], dtype=torch.float64))


@given(decimals, st.sampled_from([torch.float32, torch.float64]))
def test_thresholds_grow_for_proofs_and_shrink_for_counterexamples(
    threshold: str, dtype: torch.dtype
) -> None:
    property = parse_vnnlib(
        file([(">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), (">=", ("Y", 0), threshold)], 1, 1)
    )
    [case] = property.cases
    for grown in (True, False):
        specification = property.specification(case.disjuncts, grown=grown, dtype=dtype)
        assert specification.C.tolist() == [[-1.0]]  # −y ≤ −threshold
        assert specification.d is not None
        # The row is 0 at y = d, which may be no further from being unsafe than the threshold.
        at = Fraction(specification.d.item())
        assert at <= Fraction(threshold) if grown else at >= Fraction(threshold)
        assert (
            abs(at - Fraction(threshold))
            <= abs(Fraction(threshold)) * Fraction(torch.finfo(dtype).eps) + Fraction(2) ** -149
        )


def test_a_nan_is_no_counterexample() -> None:
    [case] = box("0", "1").cases
    for broken in (math.nan, math.inf, -math.inf):
        assert not case.contains(torch.tensor([broken]))
        assert not case.violated_by(torch.tensor([broken]))
    assert case.violated_by(torch.tensor([0.0]))


def test_strict_inequalities_of_outputs_exclude_equality() -> None:
    for comparison, unsafe in (("<", False), ("<=", True), (">", False), (">=", True)):
        property = parse_vnnlib(
            file(
                [(">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), (comparison, ("Y", 0), "0.5")], 1, 1
            )
        )
        assert property.cases[0].violated_by(torch.tensor([0.5])) is unsafe


def test_clauses_with_one_box_are_one_case() -> None:
    halves = ("or", ("<=", ("X", 0), "0"), (">=", ("X", 0), "0"))
    property = parse_vnnlib(
        file(
            [
                *[(">=", ("X", 0), "-1"), ("<=", ("X", 0), "1"), halves],
                ("or", ("<=", ("Y", 0), "0"), ("and", (">=", ("Y", 0), "3"), ("<", ("Y", 1), "1"))),
            ],
            inputs=1,
        )
    )
    assert [[end.item() for end in case.outer()] for case in property.cases] == [[-1, 0], [0, 1]]
    assert [[len(d) for d in case.disjuncts] for case in property.cases] == [[1, 2], [1, 2]]
    assert property.cases[0].rows == [range(0, 1), range(1, 3)]
    assert property.alike(2) == [[0, 1]]
    assert property.alike(1) == [[0], [1]]


def test_empty_boxes_contribute_nothing() -> None:
    alternatives = ("or", ("<=", ("X", 0), "-2"), (">=", ("X", 0), "0.5"), ("<", ("X", 0), "-1"))
    property = parse_vnnlib(
        file(
            [
                *[(">=", ("X", 0), "-1"), ("<=", ("X", 0), "1"), alternatives],
                ("<=", ("Y", 0), "0"),
            ],
            inputs=1,
        )
    )
    assert [[end.item() for end in case.outer()] for case in property.cases] == [[0.5, 1]]
    assert property.empty == 2


# -- real files


def files(shared_data: Path, family: str) -> list[Path]:
    return sorted((shared_data / "vnncomp" / family).rglob("*.vnnlib"))


def reads_as_it_is_written(path: Path) -> None:
    """Against regular expressions, which suffice for files that bound each input on its own."""
    text, property = re.sub(";.*", "", path.read_text()), read_vnnlib(path)
    found: dict[str, dict[int, list[float]]] = {"<=": {}, ">=": {}}
    for comparison, index, number in re.findall(r"\((<=|>=) X_(\d+) ([^)\s]+)\)", text):
        found[comparison].setdefault(int(index), []).append(float(number))
    rows = re.findall(r"\((<=|>=) (Y_\d+) (\S+?)\)", text)
    assert sum(len(d) for d in property.cases[0].disjuncts) == len(rows)
    assert property.outputs == len(re.findall("declare-const Y", text))
    for position, case in enumerate(property.cases):
        assert len(case.box) == property.inputs == len(found["<="]) == len(found[">="])
        for end, numbers in zip(case.outer(), (found[">="], found["<="]), strict=True):
            expected = [numbers[i][min(position, len(numbers[i]) - 1)] for i in range(len(numbers))]
            # Outward by a unit of the last place at most.
            np.testing.assert_allclose(end.numpy(), expected, rtol=2.3e-16, atol=5e-324)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_the_competition(shared_data: Path, family: str) -> None:
    for path in files(shared_data, family)[::40]:
        reads_as_it_is_written(path)


@pytest.mark.slow
def test_all_files_of_the_competition(shared_data: Path) -> None:
    every = [path for family in FAMILIES for path in files(shared_data, family)]
    assert len(every) >= 453
    for path in every:
        reads_as_it_is_written(path)


@pytest.mark.parametrize("family", FAMILIES[:-1])
def test_counterexamples_of_other_tools(shared_data: Path, family: str) -> None:
    """They are counterexamples to the property as it is read here, on the network read here."""
    folder = shared_data / "vnncomp" / family
    if not (folder / "counterexamples.npz").exists():
        assert family == "cifar10_resnet"
        return
    judged, looked_at = 0, 0
    with np.load(folder / "counterexamples.npz") as stored:
        for key in stored.files[:: 1 + len(stored.files) // 10]:
            looked_at += 1
            model, spec = key.split("|")
            property = read_vnnlib(folder / spec)
            network = from_onnx(folder / model, dtype=torch.float64)
            x = torch.from_numpy(stored[key]).double()
            # Their tools allowed for float32: the box is left by a few units of it at most.
            inside = []
            for case in property.cases:
                low, high = case.outer()
                near = x.clamp(low, high)
                inside.append(bool((near - x).abs().amax() <= 1e-6 * x.abs().amax().clamp(min=1)))
                if inside[-1]:
                    y = network(near.reshape(1, *network.input_shape))[0]
                    judged += case.violated_by(y)
            assert any(inside), key
    assert judged == looked_at > 5


def test_equalities() -> None:
    text = file([("=", ("X", 0), "0.5"), ("=", ("Y", 0), ("Y", 1))], 1, 2)
    property = parse_vnnlib(text)
    assert [case.box[0] for case in property.cases] == [Interval(Fraction(1, 2), Fraction(1, 2))]
    half = torch.tensor([0.5])
    assert counterexample(property, half, torch.tensor([3.0, 3.0]))
    assert not counterexample(
        property, half, torch.tensor([3.0, math.nextafter(3, 4)], dtype=torch.float64)
    )
    assert not counterexample(property, half + 0.1, torch.tensor([3.0, 3.0]))


def test_thousands_of_small_boxes() -> None:
    """As the competition's nn4sys files have them: a box and two sides of the answer each."""
    count = 7000
    cases = [
        f"(and (>= X_0 {i}) (<= X_0 {i + 1}) (or (<= Y_0 {i - 9}) (>= Y_0 {i + 9})))"
        for i in range(count)
    ]
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    property = parse_vnnlib(f"{declared}(assert (or {' '.join(cases)}))")
    assert [len(case.disjuncts) for case in property.cases] == [2] * count
    assert counterexample(property, torch.tensor([6999.5]), torch.tensor([7009.0]))
    assert not counterexample(property, torch.tensor([6999.5]), torch.tensor([7000.0]))
