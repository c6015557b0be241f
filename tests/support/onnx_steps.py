"""Each ONNX operator that is read, and graphs that are drawn of them."""

from __future__ import annotations

import math
from typing import Literal

from hypothesis import strategies as st

from tests.support import onnx_compute_steps as compute
from tests.support import onnx_layout_steps as layout
from tests.support import onnx_window_steps as windows
from tests.support.onnx_compute_steps import Draw
from tests.support.onnx_graphs import DTYPE, NUMBERS, OPSETS, Draft, Graph, Normal, Whole

# -- constants, which are folded and then added to the last tensor


def join(d: Draft, x: int) -> None:
    """Add numbers of the last tensor, which is a constant, to tensor x."""
    wanted = d.shapes[x][-1] if len(d.shapes[x]) > d.first else 1
    constant, count = d.last, math.prod(d.shape)
    d.add("Reshape", constant, Whole((-1,)))
    d.add("Gather", d.last, Whole(tuple(i % count for i in range(wanted))), axis=0)
    d.add("Add", x, d.last)


def folded(op: str, kind: Literal["", "away", "positive"] = "") -> Draw:
    """A function of one constant."""

    def step(d: Draft) -> None:
        x = d.last
        d.add(op, Normal(d.draw(st.sampled_from([(2, 3), (1, 2), ()])), kind))
        join(d, x)

    return step


def constant(d: Draft) -> None:
    forms = [{"value_float": 0.5}, {"value_floats": [0.5, -1.0, 2.0]}] if d.opset >= 12 else []
    x = d.last
    if not forms:
        d.add("Identity", Normal((2,)))
    else:
        d.add("Constant", **d.draw(st.sampled_from(forms)))
        d.add("Cast", d.last, to=DTYPE)
    join(d, x)


def constant_of_shape(d: Draft) -> None:
    if d.opset < 9:
        return
    x = d.last
    d.add("ConstantOfShape", Whole((2, 2)))
    d.add("Cast", d.last, to=DTYPE)
    d.add("Add", d.last, Normal((2,)))
    join(d, x)


def sizes(op: str) -> Draw:
    """The sizes of a constant, as numbers; those of an open batch must not be."""

    def step(d: Draft) -> None:
        x = d.last
        d.add(op, Normal((2, 3)))
        if d.opset >= 15 and op == "Shape" and d.draw(st.booleans()):
            d.add(op, Normal((2, 3, 4)), start=1, end=-1)
        d.add("Cast", d.last, to=DTYPE)
        join(d, x)

    return step


MOVES = (
    layout.transpose,
    layout.slice_,
    layout.gather,
    layout.pad,
    layout.flatten,
    layout.unsqueeze,
    layout.concat,
)


def fold_layout(d: Draft) -> None:
    """One operator that moves numbers about, on a constant."""
    x = d.last
    inner = Draft(d.draw, (2, 3), d.opset)
    d.draw(st.sampled_from(MOVES))(inner)
    base = d.add("Identity", Normal((2, 3)))
    offset = len(d.shapes) - 1
    for step in inner.steps:
        inputs = [i + offset if isinstance(i, int) else i for i in step.inputs]
        d.add(step.op, *inputs, outputs=step.outputs, **dict(step.attributes))
    assert base <= d.last
    join(d, x)


#: Steps without a ReLU, by the operator that each of them has.
AFFINE: dict[str, Draw] = {
    "Add": compute.binary("Add"),
    "AveragePool": windows.average_pool,
    "BatchNormalization": compute.batch_norm,
    "Cast": compute.cast,
    "Concat": layout.concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "Div": compute.binary("Div", swap=False, symbols=False),
    "Dropout": compute.dropout,
    "Exp": folded("Exp"),
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Gather": layout.gather,
    "Gemm": compute.gemm,
    "GlobalAveragePool": windows.global_pool("GlobalAveragePool"),
    "Identity": compute.unary("Identity"),
    "MatMul": compute.matmul,
    "Mul": compute.binary("Mul", symbols=False),
    "Neg": compute.unary("Neg"),
    "Pad": layout.pad,
    "ReduceMean": compute.reduction("ReduceMean", 18),
    "ReduceSum": compute.reduction("ReduceSum", 13),
    "Reciprocal": folded("Reciprocal", "away"),
    "Reshape": layout.reshape,
    "Shape": sizes("Shape"),
    "Size": sizes("Size"),
    "Slice": layout.slice_,
    "Split": layout.split,
    "Sqrt": folded("Sqrt", "positive"),
    "Squeeze": layout.squeeze,
    "Sub": compute.binary("Sub"),
    "Sum": compute.binary("Sum", since=8),
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
}
EVERY: dict[str, Draw] = {
    **AFFINE,
    "Abs": compute.unary("Abs"),
    "Clip": compute.clip,
    "GlobalMaxPool": windows.global_pool("GlobalMaxPool"),
    "LeakyRelu": compute.unary("LeakyRelu", alpha=st.sampled_from([0.01, 0.5, -0.25, 1.5])),
    "Max": compute.binary("Max", since=8),
    "MaxPool": windows.max_pool,
    "Min": compute.binary("Min", since=8),
    "PRelu": compute.prelu,
    "Relu": compute.unary("Relu"),
}
#: Steps on a constant alone.
FOLDED: dict[str, Draw] = {"layout of a constant": fold_layout}


@st.composite
def graphs(draw: st.DrawFn, *, must: str | None = None, affine: bool = False) -> Graph:
    """Up to four operators, without a ReLU where `affine`, and with `must` among them."""
    sample = draw(st.sampled_from([(3,), (5,), (2, 3), (1, 4), (2, 2, 3), (1, 3, 4), (4, 3, 2)]))
    lead: tuple[int | str, ...] = draw(st.sampled_from([(1,), (1,), ("batch",), ("batch",), ()]))
    draft = Draft(draw, (*lead, *sample), draw(st.integers(*OPSETS)))
    pool = {**(AFFINE if affine else EVERY), **FOLDED}
    names = draw(st.lists(st.sampled_from(sorted(pool)), max_size=3))
    if must is not None:
        names.insert(draw(st.integers(0, len(names))), must)
    for name in names:
        if len(draft.shape) == draft.first:
            layout.unsqueeze(draft)  # there is an axis to work along
        if draft.size <= NUMBERS:
            pool[name](draft)
    draft.add("Identity", draft.last)
    constants = draw(st.sampled_from(["initializer", "node"]))
    return Graph(
        draft.input_shape, tuple(draft.steps), draft.opset, draw(st.integers(0, 2**16)), constants
    )
