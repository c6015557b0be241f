"""Modules to export, and the archives that torch.export makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A residual connection, and every layer that is modelled but Conv1d."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True))
        self.second = nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.pool = nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, 3)
        norm = self.first[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = torch.relu(h + self.second(h))
        h = self.drop(self.pool(h))
        return self.fc(h.view(h.size(0), -1)) * 2 - 1


class Constants(nn.Module):
    """Buffers, tensors written in `forward`, a masked weight, arithmetic from either side."""

    mean: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, -0.2]), persistent=False)
        self.register_buffer("mask", torch.tensor([[1, 0, 1, 1]]) > 0)
        self.weight = nn.Parameter(torch.randn(4, 8))
        self.norm = nn.BatchNorm1d(8, affine=False)
        self.shift = torch.arange(4.0)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean.view(-1, 1)) / torch.tensor([2.0, 3.0]).unsqueeze(-1)
        x = self.norm(x.reshape(-1, 8).float())
        h = F.linear(x, self.weight * self.mask.t())
        h += self.shift
        h = torch.sub(1 - h, h, alpha=0.25)
        return -(0.5 * h.relu_()).flatten(1)


class Strided(nn.Module):
    """Parameters that are not contiguous, share a storage or begin inside one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, stride=2, padding=1)
        self.conv.weight.data = self.conv.weight.data.transpose(0, 2).contiguous().transpose(0, 2)
        self.fc = nn.Linear(6, 6)
        self.fc.weight.data = self.fc.weight.data.t()
        self.fc.bias.data = torch.arange(20.0)[3:15:2]
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.fc(F.relu(self.conv(x)).flatten(1)))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (1, 4, 4)),
    "constants": (Constants, (2, 4)),
    "strided": (Strided, (2, 4)),
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), (5,)),
}


def export(model: nn.Module, x: Tensor, path: Path, *, dynamic: bool, strict: bool = False) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(
        torch.export.export(model.eval(), (x,), dynamic_shapes=shapes, strict=strict), path
    )
    return path
