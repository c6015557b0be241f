"""Networks of ours as modules of PyTorch, for peers that bound modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import bounds
from bounds.network.affine import Linear
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, ReluNode, SumNode


class Model(nn.Module):
    """A network of convolutions, dense layers and sums as a module that auto_LiRPA reads."""

    def __init__(self, network: bounds.Network) -> None:
        super().__init__()
        self.nodes, self.layers = network.nodes, nn.ModuleDict()
        for index, node in enumerate(network.nodes):
            if isinstance(node, AffineNode):
                self.layers[str(index)] = layer(node.operation)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for index, node in enumerate(self.nodes[1:], 1):
            first, *others = (values[parent] for parent in node.parents)
            if isinstance(node, AffineNode):
                values.append(self.layers[str(index)](first))
            elif isinstance(node, ReluNode):
                values.append(torch.relu(first))
            else:
                assert isinstance(node, SumNode)
                values.append(sum(others, first))
        return values[-1]


def layer(operation: Any) -> nn.Module:
    match operation:
        case Convolution(weight=weight, bias=bias):
            options = operation.stride, operation.padding, operation.dilation, operation.groups
            kernel = weight.shape[2:]
            found: nn.Module = nn.Conv2d(
                operation.input_shape[0], len(weight), kernel, *options, bias is not None
            )
        case Linear(weight=weight, bias=bias):
            found = nn.Linear(*reversed(weight.shape), bias is not None)
        case _:
            return nn.Flatten()
    found.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return found.to(weight.dtype)
