"""Which coefficients of a backward pass from single neurons lie in windows, and in which ones.

Windows are a matter of shapes: they are known before anything is computed.
"""

from __future__ import annotations

import math

from bounds.dual.patches import Extent
from bounds.network.affine import Scale
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, InputNode, Network, Node, ReluNode, SumNode
from bounds.network.memory import pass_numbers

#: Of the coefficients on a node, while a pass is there: products, parts and what they are
#: multiplied by; and what waits at other nodes.
COPIES = 12


def descent(network: Network, start: int) -> dict[int, Extent]:
    """Of rows that begin with neurons of node `start`: the nodes on which their coefficients are
    kept as patches, the last one first, and their windows on each. All readers of such a node are
    such nodes, as far as the rows depend on them. None if what `start` reads is no such node.
    """
    found: dict[int, Extent] = {}
    arriving: dict[int, Extent | None] = {}
    if _keeps(network.nodes[start]):
        arriving[start] = Extent.of_neurons(len(network.nodes[start].shape) - 1)
    for index in range(start, -1, -1):
        if index not in arriving:
            continue
        reads, node = arriving[index], network.nodes[index]
        if reads is not None:
            found[index] = reads
            if isinstance(node, AffineNode) and isinstance(node.operation, Convolution):
                reads = reads.read_by(node.operation)
        for parent in node.parents:
            other = arriving.get(parent, reads)
            both = None if reads is None or other is None else reads.union(other)
            shape = network.nodes[parent].shape
            small = both is not None and math.prod(both.window) < math.prod(shape[1:])
            arriving[parent] = both if small and _keeps(network.nodes[parent]) else None
    return found if any(parent in found for parent in network.nodes[start].parents) else {}


def _keeps(node: Node) -> bool:
    """Whether patches on the node can go on to what it reads."""
    if len(node.shape) < 2:
        return False
    match node:
        case InputNode() | SumNode() | ReluNode():
            return True
        case AffineNode(operation=Convolution() | Scale()):
            return True
    return False


def numbers_at_a_time(network: Network, start: int) -> int:
    """What a row that begins with a neuron of node `start` holds at a time during its pass, copies
    included, where nothing is kept for gradients."""
    extents, held = descent(network, start), network.behind(start)
    match network.nodes[start]:
        case AffineNode(operation=Convolution()):
            held.remove(start)  # its rows begin as windows of what it reads
    sizes = []
    for index in held:
        shape = network.nodes[index].shape
        window = extents[index].window if index in extents else shape[1:]
        sizes.append(shape[0] * math.prod(window))
    return COPIES * max(sizes)


def numbers_at_input(network: Network, start: int) -> int:
    """On how many numbers of the input a row that begins with a neuron of node `start` has
    coefficients."""
    channels, *spatial = network.input_shape
    extents = descent(network, start)
    return channels * math.prod(extents[0].window if 0 in extents else spatial)


def numbers_of_neuron(network: Network, start: int) -> int:
    """What a row that begins with a neuron of node `start` holds during its pass, copies
    included."""
    extents = descent(network, start)
    if not extents:
        return pass_numbers(network, start)
    # What a ReLU or a sum gives is held where it is read.
    affine = [k for k in extents if isinstance(network.nodes[k], AffineNode)]
    read = {parent for k in affine for parent in network.nodes[k].parents if parent in extents}
    numbers = sum(4 * network.nodes[k].shape[0] * math.prod(extents[k].window) for k in read)
    below = [parent for k in extents for parent in network.nodes[k].parents]
    whole = max((parent for parent in below if parent not in extents), default=0)
    return numbers + (pass_numbers(network, whole) if whole > 0 else 0)
