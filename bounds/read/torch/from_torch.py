"""torch module → `Network`, by calling its own forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from bounds.errors import BoundsError, InvalidInputError, UnsupportedLayerError
from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.network.graph import AffineNode, Network
from bounds.read.agreement import require_agreement
from bounds.read.export.archive import first_line
from bounds.read.torch.private import dice, floating, follow, innermost, private
from bounds.read.torch.traced import Trace

#: Of models that agreed with what was read from them, and with themselves: the form of that, and
#: how often it has been read.
_agreed = WeakIdKeyDictionary()


def from_torch(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    drop_softmax: bool = False,
) -> Network:
    """Read a torch module into a `Network`.

    The module's forward is called once with a tensor that stands for every input, and three times
    on a few inputs of a fixed seed, or one of them alone: a network that does not compute what the
    module computes, up to rounding, is refused. What forward
    computes of parameters and constants alone is computed by torch, in their dtype, and the network
    has the results.

    A few inputs cannot show everything: a forward that answers otherwise after many calls, or for
    inputs that it is not called with here, is read as what it computed for these. What forward
    cuts out of the reach of gradients, by detach or a backward of its own, is within it here.

    Nothing of the model changes but what its forward reaches beyond its own attributes: neither
    parameters and buffers, nor modes, nor the state of torch's random numbers. Several threads may
    read, call and train the same model at once, as long as none changes parameters that another one
    is reading.

    Args:
        model: any module whose forward takes one tensor and calls the functions of
            `bounds.read.torch.functions`: dense and convolution layers, batch normalisation and
            dropout in eval mode, average and maximum pooling, ReLU and its piecewise linear
            relatives, sums, products with constants, and whatever moves numbers within a sample.
            Of `DataParallel`, `DistributedDataParallel` and `torch.compile` it is what they wrap.
        input_shape: the shape of one sample, without the batch axis.
        dtype: torch.float32 or torch.float64; default: that of the model's parameters.
        drop_softmax: read a model that ends with a softmax or log-softmax as its logits, whose
            order is the same, and whose margins are those of the log-softmax.

    Raises:
        UnsupportedLayerError: names the first layer or attribute that is not modelled, with the
            remedy; or the network and the model differ.
        InvalidInputError: shapes that do not fit, NaN or infinite parameters, a dtype that is not
            floating.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> network = from_torch(model, (4,))
    >>> network.input_shape, network.output_shape, len(network.relus)
    ((4,), (3,), 1)
    """
    if not isinstance(model, nn.Module):
        raise InvalidInputError(
            f"from_torch got a {type(model).__name__}, expected a torch.nn.Module: pass "
            "the model itself."
        )
    return read_module(model, input_shape, dtype=dtype, drop_softmax=drop_softmax)


def read_module(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    drop_softmax: bool = False,
    often: bool = False,
) -> Network:
    """`from_torch` of a module; often: whether it is read in each step of training. Then it is
    compared after 0, 1, 2, 4, 8, … readings, as long as the nodes and modes are the same."""
    model = innermost(model)
    name = type(model).__name__
    numbers = floating(model)
    own = numbers[0].dtype if numbers else dtype or torch.get_default_dtype()
    device = numbers[0].device if numbers else torch.get_default_device()
    build = NetworkBuilder(
        input_shape, dtype or own, device, model_dtype=own, drop_softmax=drop_softmax
    )
    copy = private(model)
    trace = Trace(build, own)
    follow(copy, trace.enter, trace.leave)
    try:
        output = trace.run(copy)
    except BoundsError:
        raise
    except Exception as error:  # whatever the model's own forward raises
        raise trace.refusal or UnsupportedLayerError(
            f"from_torch cannot call {name} with one tensor of shape (batch, "
            f"{', '.join(map(str, build.input.shape))}) ({first_line(error)}): check input_shape, "
            "and use functions of torch, on all samples alike."
        ) from error
    if not isinstance(output, Symbol):
        raise UnsupportedLayerError(
            f"{name} returns {type(output).__name__}, expected one tensor that depends on its "
            "input: wrap the model so that it returns its logits."
        )
    network = build.finish(output)
    form = build.dtype, *_form(network, copy)
    agreed, times = _agreed.get(model, (None, 0))
    if not often or agreed != form:
        times = 0
    if times.bit_count() <= 1:
        _require_same(model, network, build, own)
    _agreed[model] = form, times + 1
    return network


def _require_same(
    model: nn.Module, network: Network, build: NetworkBuilder, own: torch.dtype
) -> None:
    """Refuse a network that differs from its model, of this dtype, or a model that differs from
    itself."""
    name, fresh, drawn = type(model).__name__, private(model), []

    def evaluate(x: Tensor) -> Tensor:
        before = dice(fresh)
        try:
            with torch.no_grad():
                result: Tensor = fresh(x.to(build.device, own))
        except Exception as error:  # again, whatever the model's own forward raises
            raise UnsupportedLayerError(
                f"from_torch cannot call {name} with inputs of {own} and shape {tuple(x.shape)} "
                f"({first_line(error)}): keep all parameters in one dtype, and treat all samples "
                "alike."
            ) from error
        drawn.append(dice(fresh) != before)
        return result

    require_agreement(f"from_torch({name})", network, build, evaluate, own)
    if all(drawn):  # in every call: another thread may have drawn during one of them
        raise UnsupportedLayerError(
            f"from_torch({name}): its forward draws random numbers of Python or NumPy, so that the "
            "outputs for one input may differ; call model.eval(), or leave them out of forward."
        )


def _form(network: Network, model: nn.Module) -> tuple[Any, ...]:
    """What is the same from step to step of training, where a module computes one thing."""
    nodes = [
        (type(node), node.parents, node.shape)
        + ((type(node.operation),) if isinstance(node, AffineNode) else ())
        for node in network.nodes
    ]
    return nodes, [module.training for module in model.modules()]
