"""ONNX operators that slide a window, as steps of a drawn graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.support.onnx_compute_steps import image
from tests.support.onnx_graphs import Draft, Normal


def windows(d: Draft, axes: int, *, dilated: bool, pooled: bool) -> dict[str, Any]:
    """Kernel, strides, dilations and padding that fit the last tensor."""
    kernel, strides, dilations, before, after = [], [], [], [], []
    auto_pad = d.draw(st.sampled_from(["NOTSET"] * 4 + ["SAME_UPPER", "SAME_LOWER", "VALID"]))
    for size in d.shape[2:]:
        same = auto_pad.startswith("SAME")
        dilations.append(d.draw(st.integers(1, 2)) if dilated and not same else 1)
        strides.append(d.draw(st.integers(1, 3)) if not same else 1)
        pads = [d.draw(st.integers(0, 1)) if auto_pad == "NOTSET" else 0 for _ in range(2)]
        room = size + sum(pads)
        k = d.draw(st.integers(1, max(1, min(3, 1 + (room - 1) // dilations[-1]))))
        covers = dilations[-1] <= size and (k - 1) * dilations[-1] >= max(pads)
        if pooled and not covers:  # a window could lie in the padding alone
            pads = [0, 0]
        kernel.append(k if (k - 1) * dilations[-1] < size + sum(pads) else 1)
        before.append(pads[0])
        after.append(pads[1])
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        found["pads"] = [*before, *after]
    if dilated:
        found["dilations"] = dilations
    return found


def conv(d: Draft) -> None:
    axes = d.draw(st.integers(1, 2))
    image(d, axes)
    channels, groups = (
        d.shape[1],
        d.draw(st.sampled_from([g for g in (1, 2, 3) if d.shape[1] % g == 0])),
    )
    out = groups * d.draw(st.integers(1, 2))
    found = windows(d, axes, dilated=True, pooled=False)
    bias = (Normal((out,)),) if d.draw(st.booleans()) else ()
    weight = Normal((out, channels // groups, *found["kernel_shape"]))
    d.add("Conv", d.last, weight, *bias, group=groups, **found)


def conv_transpose(d: Draft) -> None:
    axes = d.draw(st.integers(1, 2))
    image(d, axes)
    channels, groups = (
        d.shape[1],
        d.draw(st.sampled_from([g for g in (1, 2, 3) if d.shape[1] % g == 0])),
    )
    out = groups * d.draw(st.integers(1, 2))
    kernel = [d.draw(st.integers(1, 3)) for _ in range(axes)]
    strides = [d.draw(st.integers(1, 2)) for _ in range(axes)]
    dilations = [d.draw(st.integers(1, 2)) for _ in range(axes)]
    extra = [d.draw(st.integers(0, s - 1)) for s in strides]
    full = [
        (n - 1) * s + r * (k - 1) + 1 + e
        for n, s, r, k, e in zip(d.shape[2:], strides, dilations, kernel, extra, strict=True)
    ]
    how = d.draw(st.sampled_from(["pads", "pads", "output_shape", "SAME_UPPER", "SAME_LOWER"]))
    found: dict[str, Any] = {"strides": strides, "dilations": dilations, "output_padding": extra}
    if how == "pads":
        before = [
            d.draw(st.integers(0, min(1, f - e - 1))) for f, e in zip(full, extra, strict=True)
        ]
        after = [
            d.draw(st.integers(0, min(1, f - b - 1))) for f, b in zip(full, before, strict=True)
        ]
        found["pads"] = [*before, *after]
    elif how == "output_shape":
        found["output_shape"] = [d.draw(st.integers(max(1, f - 2), f)) for f in full]
        if d.draw(st.booleans()):
            found["auto_pad"] = d.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    elif all(n * s <= f for n, s, f in zip(d.shape[2:], strides, full, strict=True)):
        found["auto_pad"] = how
    weight = Normal((channels, out // groups, *kernel))
    bias = (Normal((out,)),) if d.draw(st.booleans()) else ()
    d.add("ConvTranspose", d.last, weight, *bias, group=groups, **found)


def max_pool(d: Draft) -> None:
    axes = d.draw(st.integers(1, 2))
    image(d, axes)
    found = windows(d, axes, dilated=d.opset >= 10, pooled=True)
    if d.opset >= 10:
        found["ceil_mode"] = d.draw(st.integers(0, 1))
    d.add("MaxPool", d.last, **found)


def average_pool(d: Draft) -> None:
    axes = d.draw(st.integers(1, 2))
    image(d, axes)
    found = windows(d, axes, dilated=False, pooled=True)
    if d.opset >= 10:
        found["ceil_mode"] = d.draw(st.integers(0, 1))
    d.add("AveragePool", d.last, count_include_pad=d.draw(st.integers(0, 1)), **found)


def global_pool(op: str) -> Callable[[Draft], None]:
    def step(d: Draft) -> None:
        image(d, d.draw(st.integers(1, 2)))
        d.add(op, d.last)

    return step
