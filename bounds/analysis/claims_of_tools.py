"""Readers of what other tools return, as claims to be audited. Neither tool is imported: their
tensors and objects are read as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bounds.analysis.claims import OUTPUT, ROWS, Claims, Ends
from bounds.arguments import require_tensor, require_type, shown
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.relaxation.specification import Specification


def claims_of_auto_lirpa(
    network: Network,
    result: Sequence[Tensor | None] | None = None,
    *,
    C: Tensor | None = None,
    model: Any = None,
    intermediate: Mapping[str, Sequence[Tensor]] | None = None,
) -> Claims:
    """What auto_LiRPA returns for the same model, as claims for `bounds.audit`.

    Args:
        network: of the same model, read by `bounds.from_torch`.
        result: (lb, ub) of `compute_bounds`; either may be None.
        C: what `compute_bounds` was given as C, (batch, rows, outputs): `result` is then about
            these rows, else about the outputs.
        model: the BoundedModule, after `compute_bounds`: the bounds of its ReLUs' inputs are claims
            as well.
        intermediate: in place of those that the nodes hold, lower and upper ends by the names of
            nodes, such as `model.save_intermediate()` returns. Without `model`, of the inputs of
            all ReLUs and in their order, such as
            `{node.name: (node.lower, node.upper) for node in model.get_split_nodes()[0]}`.

    Returns:
        `Claims`, which share the tool's tensors.

    Raises:
        InvalidInputError: nothing to read, what is no such tensor, or bounds of ReLUs that are not
            in one order, or not as many as the network has, or of other sizes.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> end = torch.ones(1, 2)
    >>> claims = claims_of_auto_lirpa(net, (-end, end), intermediate={"/0": (-end, end)})
    >>> sorted(claims.ends) == sorted(["output", net.nodes[net.relus[0]].name])
    True
    """
    call = "claims_of_auto_lirpa"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    ends, rows = {}, None
    if model is not None or intermediate is not None:
        named = None if model is None else _inputs_of_relus(call, model)
        ends = _relu_ends(call, network, _found(call, named, intermediate))
    if result is not None:
        both = _pair(call, "result", result)
        if C is None:
            ends[OUTPUT] = _shaped(both, network.output_shape)
        else:
            rows = Specification(require_tensor(call, "C", C).detach())
            ends[ROWS] = both
    elif C is not None:
        raise InvalidInputError(f"{call} got C and no result of compute_bounds: give both.")
    if not ends:
        raise InvalidInputError(
            f"{call} got nothing to read: give the (lb, ub) of compute_bounds as result, or model."
        )
    return Claims(ends, rows)


def claims_of_convex_adversarial(
    network: Network, dual: Any, rows: tuple[Tensor, Tensor] | None = None
) -> Claims:
    """What convex_adversarial's `DualNetwork` holds for the same model, as claims for
    `bounds.audit`.

    Args:
        network: of the same model, read by `bounds.from_torch`.
        dual: the `DualNetwork`, whose zl and zu are claims about the inputs of its ReLUs. Those of
            random projections are estimates, and claimed all the same.
        rows: c, (batch, rows, outputs), and what `dual(c)` returned, (batch, rows): claims that
            ⟨c, net(x)⟩ is no smaller. Of the values f of `RobustBounds`, `-f`.

    Returns:
        `Claims`, which share the tool's tensors.

    Raises:
        InvalidInputError: an object without such layers, rows that are no such tensors, or bounds
            of ReLUs that are not as many as the network has, or of other sizes.

    >>> import torch, bounds
    >>> from types import SimpleNamespace
    >>> net = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> layer = SimpleNamespace(zl=-torch.ones(1, 2), zu=torch.ones(1, 2))
    >>> claims = claims_of_convex_adversarial(net, SimpleNamespace(dual_net=[layer]))
    >>> [end.tolist() for both in claims.ends.values() for end in both]
    [[[-1.0, -1.0]], [[1.0, 1.0]]]
    """
    call = "claims_of_convex_adversarial"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    layers = getattr(dual, "dual_net", None)
    if not isinstance(layers, Iterable):
        raise InvalidInputError(
            f"{call}(dual) got {shown(dual)} without dual_net, expected a DualNetwork: make one "
            "with convex_adversarial.DualNetwork(model, x, epsilon)."
        )
    found = [(layer.zl, layer.zu) for layer in layers if hasattr(layer, "zl")]
    ends = _relu_ends(call, network, [_pair(call, "dual", both) for both in found])
    if rows is None:
        return Claims(ends)
    c, value = _pair(call, "rows", rows)
    ends[ROWS] = value, torch.full_like(value, math.inf)
    return Claims(ends, Specification(c))


def _inputs_of_relus(call: str, model: Any) -> dict[str, Any]:
    """The nodes of a BoundedModule that ReLUs take, by name, in its order."""
    try:
        relus = [node for node in model.nodes() if type(node).__name__ == "BoundRelu"]
        nodes = [relu.inputs[0] for relu in relus]
        return {node.name: node for node in nodes}
    except (AttributeError, TypeError, IndexError) as error:
        raise InvalidInputError(
            f"{call}(model) got {shown(model)}, expected a BoundedModule: the model that "
            "compute_bounds was called of."
        ) from error


def _found(
    call: str,
    named: Mapping[str, Any] | None,
    intermediate: Mapping[str, Sequence[Tensor]] | None,
) -> list[Ends]:
    """Bounds of the inputs of ReLUs in the tool's order."""
    if intermediate is None:
        assert named is not None
        return [
            _pair(call, f"model, node {name!r}", (node.lower, node.upper))
            for name, node in named.items()
        ]
    require_type(f"{call}(intermediate)", intermediate, Mapping, "give pairs of ends by name")
    names = list(intermediate if named is None else named)
    missing = [name for name in names if name not in intermediate]
    if missing:
        raise InvalidInputError(
            f"{call}(intermediate) has no bounds by {missing[0]!r}, the input of a ReLU of the "
            "model: give what model.save_intermediate() returns."
        )
    return [_pair(call, f"intermediate[{name!r}]", intermediate[name]) for name in names]


def _pair(call: str, name: str, both: Sequence[Tensor | None]) -> Ends:
    """Two tensors, of which one may be None and claims nothing then."""
    if not isinstance(both, Sequence) or len(both) != 2 or all(end is None for end in both):
        raise InvalidInputError(
            f"{call}({name}) got {shown(both)}, expected a pair of tensors, of which one may be "
            "None: call it after the tool has bounded them."
        )
    given = [None if end is None else require_tensor(call, name, end).detach() for end in both]
    like = next(end for end in given if end is not None)
    lower, upper = (
        torch.full_like(like, nothing) if end is None else end
        for end, nothing in zip(given, (-math.inf, math.inf), strict=True)
    )
    return lower, upper


def _relu_ends(call: str, network: Network, found: Sequence[Ends]) -> dict[str, Ends]:
    """Bounds by the names of the network's ReLUs, in whose order they are."""
    relus = [network.nodes[index] for index in network.relus]
    if len(found) != len(relus):
        raise InvalidInputError(
            f"{call} found bounds of {len(found)} ReLUs, and the network has {len(relus)} (a "
            "maximum, a LeakyReLU or a clamp has some of its own): give bounds.audit those that "
            "are meant by the names of relaxation.layers."
        )
    _require_one_order(call, network)
    ends: dict[str, Ends] = {}
    for node, (lower, upper) in zip(relus, found, strict=True):
        numbers = math.prod(node.shape)
        if any(end.dim() == 0 or end[0].numel() != numbers for end in (lower, upper)):
            raise InvalidInputError(
                f"{call} found bounds of shape {tuple(lower.shape)} and {tuple(upper.shape)} where "
                f"the ReLU {node.name!r} has shape (batch, {', '.join(map(str, node.shape))}): "
                "read the network of the same model."
            )
        ends[node.name] = _shaped((lower, upper), node.shape)
    return ends


def _require_one_order(call: str, network: Network) -> None:
    """Refuse ReLUs of which two do not depend on each other: tools may list them either way."""
    for before, after in zip(network.relus, network.relus[1:], strict=False):
        if before not in network.behind(after):
            names = [network.nodes[index].name for index in (before, after)]
            raise InvalidInputError(
                f"{call} cannot tell the ReLUs {names[0]!r} and {names[1]!r} apart, as neither "
                "comes after the other: give bounds.audit the bounds by their names."
            )


def _shaped(both: Ends, shape: Sequence[int]) -> Ends:
    lower, upper = (
        end.reshape(len(end), *shape) if end[0].numel() == math.prod(shape) else end for end in both
    )
    return lower, upper
