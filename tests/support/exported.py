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


class Each(nn.Module):
    """Functions of the input and of the module, their results side by side."""

    index: Tensor

    def __init__(self, *functions: Callable[[Each, Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = functions
        self.weight = nn.Parameter(torch.randn(4, 2, 2, 2))
        self.vector = nn.Parameter(torch.randn(4))
        self.register_buffer("index", torch.tensor([2, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([function(self, x).flatten(1) for function in self.functions], 1)


def layers() -> nn.Module:
    """Modules that are layers, of images of four channels."""
    return nn.Sequential(
        nn.ConvTranspose2d(4, 4, 2, stride=2, padding=1, output_padding=1, groups=2),
        nn.PReLU(4),
        nn.MaxPool2d((3, 2), stride=1, padding=1, ceil_mode=True),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(4, 4, 2, padding="same"),
        nn.Hardtanh(-0.5, 1.5, inplace=True),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.ReLU6(inplace=True),
        nn.ConstantPad2d((1, 0, -1, 1), 0.5),
        nn.Upsample(scale_factor=2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(2),
        nn.ConvTranspose1d(4, 4, 3, stride=2),
        nn.MaxPool1d(3, 2, dilation=2),
        nn.AvgPool1d(2, 1, 1),
        nn.Upsample(size=5),
        nn.AdaptiveAvgPool1d(2),
        nn.Unflatten(1, (2, 2)),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def bends() -> nn.Module:
    """Piecewise linear functions and products."""
    return Each(
        lambda m, x: F.leaky_relu(x, 0.3),
        lambda m, x: F.prelu(x, m.vector),
        lambda m, x: F.relu6(x) + F.hardtanh(x) + F.relu6(x + 1, inplace=True),
        lambda m, x: x.clamp(-0.1, 0.2) + x.clip(max=0.1),
        lambda m, x: (x + 1).clamp_(min=0.9) + (x + 1).clip_(0.5, 1.5),
        lambda m, x: torch.clamp(x, max=m.vector[0]) + torch.clip(x, m.vector[1, None]),
        lambda m, x: torch.clamp_min(x, 0.1) + x.clamp_max(-0.1),
        lambda m, x: (x + 1).clamp_min_(1.2) + (x + 1).clamp_max_(0.8),
        lambda m, x: x.abs() + (2 * x).abs_(),
        lambda m, x: torch.maximum(x, x.mT) - torch.minimum(x, m.vector),
        lambda m, x: torch.max(x, -x) - torch.min(m.vector.view(4, 1, 1), x),
        lambda m, x: x @ m.weight[0, 0].repeat(2, 2) + m.weight.view(8, 4)[:4] @ x,
        lambda m, x: x.flatten(1) @ m.vector.repeat(16)[:, None],
        lambda m, x: torch.mm(x.flatten(1), m.weight.view(1, 32).expand(64, -1)),
    )


def moves() -> nn.Module:
    """Functions that move numbers, take parts, put them together, and reduce."""
    return Each(
        lambda m, x: torch.stack((x[:, 0], x[:, -1]), 1),
        lambda m, x: x[:, 1:3, ::2, None],
        lambda m, x: x[:, m.index] + x[:, :3, m.index, m.index].unsqueeze(2)[:, :, :, :1],
        lambda m, x: x[:, :3].repeat(1, 1, 1, 2),
        lambda m, x: x.index_select(2, m.index) + x.narrow(2, 1, 3) * 2,
        lambda m, x: x.chunk(2, 1)[0] - x.chunk(3, 1)[1],
        lambda m, x: x.split(3, -1)[1] + x.split([1, 2, 1], 1)[2],
        lambda m, x: x.unbind(3)[2],
        lambda m, x: x.permute(0, 3, 1, 2) + x.transpose(1, -1) + x.swapaxes(2, 3),
        lambda m, x: x.mT.flip(1, 2) + F.pad(x, (2, 1, 1, 0), "reflect")[:, :, 1:, 3:],
        lambda m, x: x.unflatten(1, (2, 2)).squeeze(1) + x.reshape(-1, 2, 2, 4, 4).squeeze((1, 2)),
        lambda m, x: x[:, :1].expand(-1, 2, 4, 4) + x[:, :1].expand(x.size(0), 2, -1, -1),
        lambda m, x: x.mean((2, 3)) + x.sum(-1, keepdim=True)[:, :, 0, 0],
        lambda m, x: x + F.interpolate(x[:, :, ::2, ::2], size=(4, 4)),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (1, 4, 4)),
    "constants": (Constants, (2, 4)),
    "strided": (Strided, (2, 4)),
    "layers": (layers, (4, 4, 4)),
    "bends": (bends, (4, 4, 4)),
    "moves": (moves, (4, 4, 4)),
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), (5,)),
}


def export(model: nn.Module, x: Tensor, path: Path, *, dynamic: bool, strict: bool = False) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(
        torch.export.export(model.eval(), (x,), dynamic_shapes=shapes, strict=strict), path
    )
    return path
