"""Queries in VNN-LIB 2.0: verdicts against ONNX Runtime, samples and closed forms."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from bounds import InvalidInputError
from bounds.certification.queries import Answer, verify
from tests.support.queries import Formula, holds, network, query, run, within, write
from tests.support.refusals import refused

ONE = network("f", "input X float32 [1]", "output Y float32 [1]")
SAME = network("g", "input U float32 [1]", "output V float32 [1]", like="(equal-to f)")


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    return write(tmp_path / "relu.onnx", [("Relu", "x", "y")], {"x": [1]}, {"y": [1]})


def asked(folder: Path, declared: str, *formulas: Formula, **models: Path) -> Answer:
    path = folder / "query.vnnlib"
    path.write_text(query(declared, *formulas))
    return verify(path, models)


def values(answer: Answer) -> dict[str, np.ndarray]:
    return {tensor.name: numbers.numpy() for tensor, numbers in answer.assignment}


def test_an_assignment_has_every_tensor_in_the_order_of_declaration(tmp_path: Path) -> None:
    path = write(
        tmp_path / "two.onnx",
        [("Sub", "a b", "h"), ("Relu", "h", "y"), ("Shape", "a", "s")],
        {"a": [2, 2], "b": [2, 2]},
        {"y": [2, 2], "s": [2]},
        elements={"s": TensorProto.INT64},
    )
    declared = network(
        "f",
        *("input A float32 [2,2]", "input B float32 [2,2]", 'hidden H float32 [2,2] "h"'),
        *("output Y float32 [2,2]", "output S int64 [2]"),
    )
    box = [(c, (n, i, j), e) for n in "AB" for i in (0, 1) for j in (0, 1)
           for c, e in ((">=", "0.0"), ("<=", "1.0"))]  # fmt: skip
    answer = asked(
        tmp_path, declared, *box, ("<=", ("H", 0, 1), "-0.5"), (">=", ("Y", 1, 0), "0.25"), f=path
    )
    assert answer.verdict == "sat"
    found = values(answer)
    assert [*found] == ["A", "B", "H", "Y", "S"]
    assert {name: number.shape for name, number in found.items()}["H"] == (2, 2)
    replayed = run(path, a=found["A"], b=found["B"])
    assert replayed["y"].tolist() == found["Y"].tolist()
    assert found["S"].tolist() == [2, 2]
    assert (found["A"] - found["B"]).astype(np.float32).tolist() == found["H"].tolist()
    unsat = asked(tmp_path, declared, *box, (">=", ("S", 0), "3"), f=path)
    assert unsat.verdict == "unsat"
    between = ("<", ("+", ("Y", 0, 0), "0.25"), ("-", ("A", 0, 0), ("B", 0, 0)))
    assert asked(tmp_path, declared, *box, between, f=path).verdict == "unsat"


def test_a_strict_inequality_holds_strictly(tmp_path: Path, relu: Path) -> None:
    box = within("X", 1)
    assert asked(tmp_path, ONE, *box, (">=", ("Y", 0), "1.0"), f=relu).verdict == "sat"
    assert asked(tmp_path, ONE, *box, (">", ("Y", 0), "1.0"), f=relu).verdict == "unknown"
    assert asked(tmp_path, ONE, *box, ("!=", ("Y", 0), "1.0"), f=relu).verdict == "sat"
    point = [("==", ("X", 0), "0.5")]
    assert asked(tmp_path, ONE, *point, ("!=", ("Y", 0), "0.5"), f=relu).verdict == "unknown"
    assert asked(tmp_path, ONE, *point, ("==", ("Y", 0), "0.5"), f=relu).verdict == "sat"
    assert asked(tmp_path, ONE, ("<", ("X", 0), "0.5"), (">", ("X", 0), "0.5"), f=relu).verdict == (
        "unsat"
    )


def test_a_constant_is_the_nearest_number_of_its_type(tmp_path: Path, relu: Path) -> None:
    # No float32 is 0.1, which as a float32 constant means 0.100000001490116…
    point = (("==", ("X", 0), "0.1"), ("==", ("Y", 0), "0.1"))
    answer = asked(tmp_path, ONE, *point, f=relu)
    assert answer.verdict == "sat"
    assert values(answer)["X"].tolist() == [float(np.float32(0.1))]
    exact = ONE.replace("float32", "real")
    above = (">=", ("Y", 0), "0.100000001")
    assert asked(tmp_path, ONE, point[0], above, f=relu).verdict == "sat"
    assert asked(tmp_path, exact, point[0], above, f=relu).verdict == "unsat"


def test_what_is_compared_is_rounded_as_its_type_rounds(tmp_path: Path, relu: Path) -> None:
    # In float32, 1 + 1e-9 is 1 and 16777216 + 1 is 16777216: over the reals it is larger.
    box = within("X", 1, "1.0", "1.0")
    sums = ("<=", ("+", ("Y", 0), "0.000000001"), "1.0")
    assert asked(tmp_path, ONE, *box, sums, f=relu).verdict == "sat"
    exact = asked(tmp_path, ONE.replace("float32", "real"), *box, sums, f=relu)
    assert exact.verdict == "unsat"
    box = within("X", 1, "0.0", "16777216.0")
    large = (">=", ("+", ("Y", 0), "1.0"), "16777217.0")
    assert asked(tmp_path, ONE, *box, large, f=relu).verdict in ("sat", "unknown")


def test_equal_networks_share_a_model_and_inputs_may_be_shared(tmp_path: Path, relu: Path) -> None:
    box = within("X", 1) + within("U", 1)
    shared = ("==", ("X", 0), ("U", 0))
    differ = (">=", ("-", ("Y", 0), ("V", 0)), "0.01")
    assert asked(tmp_path, ONE + SAME, *box, shared, differ, f=relu).verdict == "unsat"
    apart = asked(tmp_path, ONE + SAME, *box, differ, f=relu)
    assert apart.verdict == "sat"
    rising = ("<=", ("X", 0), ("U", 0))
    falls = (">=", ("-", ("Y", 0), ("V", 0)), "0.25")
    assert asked(tmp_path, ONE + SAME, *box, rising, falls, f=relu).verdict == "unsat"
    half = write(tmp_path / "half.onnx", [("Mul", "x c", "y")], {"x": [1]}, {"y": [1]}, c=[0.5])
    two = ONE + network(
        "g", "input U float32 [1]", "output V float32 [1]", like="(isomorphic-to f)"
    )
    other = asked(
        tmp_path, two, *box, shared, (">=", ("-", ("Y", 0), ("V", 0)), "0.5"), f=relu, g=half
    )
    assert other.verdict == "sat"
    assert values(other)["X"].tolist() == values(other)["U"].tolist() == [1.0]
    assert (
        asked(
            tmp_path, two, *box, shared, (">=", ("-", ("Y", 0), ("V", 0)), "0.51"), f=relu, g=half
        ).verdict
        == "unsat"
    )


def test_inequalities_between_inputs_bound_what_has_no_bounds(tmp_path: Path, relu: Path) -> None:
    between = [("<=", ("U", 0), ("X", 0)), (">=", ("U", 0), ("-", ("X", 0), "1.0"))]
    found = asked(tmp_path, ONE + SAME, *within("X", 1), *between, (">=", ("V", 0), "1.5"), f=relu)
    assert found.verdict == "unsat"
    # Without any, a counterexample counts, and its absence does not.
    free = asked(tmp_path, ONE, (">=", ("Y", 0), "1.5"), f=relu)
    assert free.verdict == "sat"
    nothing = asked(tmp_path, ONE, ("<=", ("Y", 0), "-1.0"), f=relu)
    assert (nothing.verdict, "no bounds" in nothing.reason) == ("unknown", True)


def test_a_query_without_outputs_is_about_its_inputs(tmp_path: Path, relu: Path) -> None:
    assert asked(tmp_path, ONE, *within("X", 1), f=relu).verdict == "sat"
    assert asked(tmp_path, ONE, *within("X", 1), ("<=", "1.0", "0.0"), f=relu).verdict == "unsat"


def test_scalars_open_sizes_and_defaults(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sum.onnx", [("ReduceSum", "x", "y")], {"x": ["batch", 2]}, {"y": ["a", "b"]}
    )
    declared = network("f", "input X float32 [3,2]", "output Y float32 [1,1]")
    box = [
        (c, ("X", i, j), e)
        for i in range(3)
        for j in (0, 1)
        for c, e in ((">=", "0.0"), ("<=", "1.0"))
    ]
    assert asked(tmp_path, declared, *box, (">=", ("Y", 0, 0), "5.5"), f=path).verdict == "sat"
    assert asked(tmp_path, declared, *box, (">=", ("Y", 0, 0), "6.5"), f=path).verdict == "unsat"
    scalar = write(tmp_path / "scalar.onnx", [("Relu", "x", "y")], {"x": []}, {"y": []})
    declared = network("f", "input X float32 []", "output Y float32 []")
    answer = asked(tmp_path, declared, ("==", ("X",), "0.5"), (">", ("Y",), "0.25"), f=scalar)
    assert (answer.verdict, values(answer)["Y"].shape) == ("sat", ())
    # An input with a default value is an input.
    path = write(
        tmp_path / "default.onnx", [("Add", "x c", "y")], {"x": [1], "c": [1]}, {"y": [1]}, c=[5.0]
    )
    declared = network("f", "input X float32 [1]", "input C float32 [1]", "output Y float32 [1]")
    box = within("X", 1) + within("C", 1)
    assert asked(tmp_path, declared, *box, (">=", ("Y", 0), "2.5"), f=path).verdict == "unsat"
    found = asked(tmp_path, declared, *box, (">=", ("Y", 0), "1.5"), f=path)
    assert found.verdict == "sat"


def test_models_have_to_be_those_that_are_declared(tmp_path: Path, relu: Path) -> None:
    box = within("X", 1)

    def case(error: str, declared: str, *fragments: str, **models: Path) -> None:
        refused(
            lambda: asked(tmp_path, declared, *box, **models), InvalidInputError, error, *fragments
        )

    case("no model for ['f']", ONE)
    case("a model for ['g'], which it does not ask for", ONE, f=relu, g=relu)
    case("a model for ['g']", ONE + SAME, f=relu, g=relu)
    case("of type float32", ONE.replace("float32", "float64"), "X is declared float64", f=relu)
    case("of shape [1]", ONE.replace("X float32 [1]", "X float32 [2]"), f=relu)
    more = network("f", "input X float32 [1]", "output Y float32 [1]", "output Z float32 [1]")
    case("has 1 outputs ['y'], where 2 are declared", more, f=relu)
    hidden = network("f", "input X float32 [1]", 'hidden H float32 [1] "h"', "output Y float32 [1]")
    case("has no node with the output 'h'", hidden, f=relu)
    wide = hidden.replace('[1] "h"', '[2] "y"')
    case("computes 'y' with shape [1]", wide, f=relu)


def test_what_is_not_linear_is_refused(tmp_path: Path, relu: Path) -> None:
    product = (">=", ("*", ("X", 0), ("Y", 0)), "0.5")
    refused(
        lambda: asked(tmp_path, ONE, *within("X", 1), product, f=relu),
        InvalidInputError,
        "a product of variables is not linear",
    )


TERMS = st.recursive(
    st.sampled_from(
        [("A", 0), ("A", 1), ("B", 0), ("H", 0), ("H", 2), ("Y", 0), ("Y", 1), "0.5", "-0.1", "0.3"]
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), inner, inner),
        st.tuples(st.just("*"), st.sampled_from(["0.5", "-2.0", "0.1"]), inner),
        st.tuples(st.just("-"), inner),
    ),
    max_leaves=4,
)
COMPARISONS = st.tuples(st.sampled_from(["<=", "<", ">=", ">"]), TERMS, TERMS).filter(
    lambda formula: any(name in str(formula) for name in ("'A'", "'B'", "'H'", "'Y'"))
)


@given(
    formulas=st.lists(
        st.one_of(
            COMPARISONS,
            st.tuples(st.just("or"), COMPARISONS, COMPARISONS),
            st.tuples(st.just("and"), COMPARISONS, COMPARISONS),
        ),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 2**16),
    element=st.sampled_from(["float32", "real"]),
)
def test_no_sample_contradicts_a_verdict(formulas: list[Any], seed: int, element: str) -> None:
    dice = np.random.default_rng(seed)
    first, second = (dice.normal(size=size).astype(np.float32) for size in ((3, 3), (3, 2)))
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = write(
            folder / "net.onnx",
            [
                *[("MatMul", "a p", "u"), ("Mul", "b q", "v"), ("Add", "u v", "z")],
                *[("Relu", "z", "h"), ("MatMul", "h r", "y")],
            ],
            {"a": [2], "b": [1]},
            {"y": [2]},
            **{"p": first[:2], "q": first[2], "r": second},
        )
        declared = network(
            "f",
            *(f"input A {element} [2]", f"input B {element} [1]"),
            *(f'hidden H {element} [3] "h"', f"output Y {element} [2]"),
        )
        box = within("A", 2) + within("B", 1)
        source = folder / "query.vnnlib"
        source.write_text(query(declared, *box, *formulas))
        answer = verify(source, {"f": path}, timeout=5)
    corners = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    points = np.concatenate([corners, dice.uniform(-1, 1, (300, 3))]).astype(np.float32)
    if answer.verdict == "sat":
        found = {k: v.astype(np.float32) for k, v in values(answer).items()}
        points = np.concatenate([found["A"], found["B"]])[None]
        hidden = np.maximum(points @ first, 0)
        assert np.allclose(hidden[0], found["H"], atol=1e-5)
        assert np.allclose(hidden[0] @ second, found["Y"], atol=1e-5)
        kind: Any = np.float32 if element == "float32" else Fraction
        assert all(holds(formula, found, kind) for formula in [*box, *formulas])
    if answer.verdict == "unsat":
        for point in points:
            hidden = np.maximum(point @ first, 0)
            numbers = {"A": point[:2], "B": point[2:], "H": hidden, "Y": hidden @ second}
            assert not all(holds(formula, numbers, np.float32) for formula in formulas)
