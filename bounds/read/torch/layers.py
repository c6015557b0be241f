"""Layer modules of torch, translated into the builder's calls.

A table from exact types: a subclass may compute something else than its name says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.operations import arithmetic, axes, layers, shapes
from bounds.read.operations.common import unsupported

#: Modules whose output is their input's memory seen in another way.
VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


def read_layer(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    """Translate one layer module."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise build.refuse(
            "it has forward hooks, whose effect is not modelled",
            "remove the hooks (for spectral or weight norm, remove the reparametrisation)",
        )
    if "forward" in vars(layer):
        raise build.refuse(
            "its forward method was replaced on this object, which is not modelled",
            "write the computation as a module of its own",
        )
    kind = type(layer)
    if kind not in LAYERS:
        raise unsupported(build, kind.__name__)
    return LAYERS[kind](build, layer, x)


def _convolution(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x = axes.pad(build, x, layer._reversed_padding_repeated_twice, layer.padding_mode)
        padding = 0
    return build.convolution(
        x,
        layer.weight,
        layer.bias,
        stride=layer.stride,
        padding=padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _convolution_transpose(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    return build.convolution_transpose(
        x,
        layer.weight,
        layer.bias,
        stride=layer.stride,
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _batch_norm(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    return build.batch_norm(
        x,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        layer.eps,
        training=layer.training,
    )


def _max_pool(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    return layers.max_pool(1 if isinstance(layer, nn.MaxPool1d) else 2)(
        build,
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.ceil_mode,
        layer.return_indices,
    )


def _average_pool(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    return layers.average_pool(1 if isinstance(layer, nn.AvgPool1d) else 2)(
        build,
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        getattr(layer, "divisor_override", None),  # AvgPool1d has none
    )


def _adaptive_average_pool(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    handler = layers.adaptive_average_pool(1 if isinstance(layer, nn.AdaptiveAvgPool1d) else 2)
    return handler(build, x, layer.output_size)


def _pad(mode: str) -> Reader:
    def read(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
        padding = layer.padding
        if len(padding) != 2 * (len(x.shape) - 1):
            raise build.misfit(x, f"(channels, then {len(padding) // 2} spatial axes)")
        return axes.pad(build, x, padding, mode, getattr(layer, "value", None))

    return read


def _upsample(build: NetworkBuilder, layer: Any, x: Symbol) -> Symbol:
    return axes.interpolate(
        build,
        x,
        layer.size,
        layer.scale_factor,
        layer.mode,
        recompute_scale_factor=layer.recompute_scale_factor,
    )


Reader = Callable[[NetworkBuilder, Any, Symbol], Symbol]
LAYERS: dict[type[nn.Module], Reader] = {
    nn.Linear: lambda build, layer, x: build.linear(x, layer.weight, layer.bias),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), _convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d), _convolution_transpose),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _batch_norm),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d), _max_pool),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d), _average_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), _adaptive_average_pool),
    nn.ReLU: lambda build, layer, x: build.relu(x),
    nn.LeakyReLU: lambda build, layer, x: build.leaky_relu(x, layer.negative_slope),
    nn.PReLU: lambda build, layer, x: arithmetic.prelu(build, x, layer.weight),
    **dict.fromkeys(
        (nn.ReLU6, nn.Hardtanh),
        lambda build, layer, x: build.clip(x, layer.min_val, layer.max_val),
    ),
    nn.Flatten: lambda build, layer, x: shapes.flatten(build, x, layer.start_dim, layer.end_dim),
    nn.Unflatten: lambda build, layer, x: shapes.unflatten(
        build, x, layer.dim, layer.unflattened_size
    ),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d), _pad("constant")),
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d), _pad("constant")),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d), _pad("reflect")),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d), _pad("replicate")),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d), _pad("circular")),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d), _upsample),
    **dict.fromkeys(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d),
        lambda build, layer, x: layers.dropout(build, x, layer.p, layer.training),
    ),
    nn.Identity: lambda build, layer, x: x,
}
