"""Layer modules of torch: the network computes what the module computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bounds import from_torch
from tests.support.building import agree
from tests.support.networks import Dice

SEQUENTIALS = {
    "Linear alone": ((3,), nn.Linear(3, 2)),
    "inplace ReLU": ((3,), nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))),
    "inplace ReLU after Flatten": (
        (2, 3),
        nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(6, 2)),
    ),
    "nested": (
        (3,),
        nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU())), nn.Linear(3, 1)),
    ),
    "the same layer twice": ((3,), nn.Sequential(*[nn.Linear(3, 3)] * 2)),
    "Dropout in eval mode": ((3,), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Identity())),
    "Dropout2d": ((2, 3, 3), nn.Sequential(nn.Conv2d(2, 2, 2), nn.Dropout2d())),
    "Conv2d same": ((2, 4, 4), nn.Conv2d(2, 2, 3, padding="same", dilation=2)),
    "Conv1d valid": ((2, 4), nn.Conv1d(2, 2, 3, padding="valid")),
    "AvgPool2d": ((2, 5, 4), nn.AvgPool2d((2, 3), stride=(2, 1), padding=(1, 0))),
    "AvgPool2d divisor": ((2, 4, 4), nn.AvgPool2d(3, 1, 1, False, False, divisor_override=5)),
    "AvgPool2d unpadded": ((2, 5, 5), nn.AvgPool2d(2, count_include_pad=False)),
    "BatchNorm1d of signals": ((3, 4), nn.BatchNorm1d(3, affine=False)),
    "Flatten of some axes": ((2, 3, 4), nn.Flatten(2)),
    "Unflatten": ((2, 6), nn.Sequential(nn.Unflatten(2, (3, 2)), nn.Unflatten(1, (1, 2)))),
    "Conv2d same, even": ((2, 4, 4), nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(3, 1))),
    **{
        f"Conv2d {mode}": ((2, 4, 4), nn.Conv2d(2, 2, 3, padding=(2, 1), padding_mode=mode))
        for mode in ("circular", "reflect", "replicate")
    },
    "Conv1d circular, same": ((2, 4), nn.Conv1d(2, 2, 2, padding="same", padding_mode="circular")),
    "ConvTranspose1d": ((2, 4), nn.ConvTranspose1d(2, 4, 3, stride=2, padding=1, groups=2)),
    "ConvTranspose2d": (
        (2, 3, 4),
        nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 3), output_padding=(1, 2), bias=False),
    ),
    "ConvTranspose2d dilated": (
        (1, 3, 3),
        nn.ConvTranspose2d(1, 1, 2, stride=2, padding=2, output_padding=2, dilation=3),
    ),
    "AvgPool1d": ((2, 7), nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "AvgPool2d in ceil mode": ((2, 5, 4), nn.AvgPool2d(2, 3, 1, ceil_mode=True)),
    "AvgPool2d without the padding": ((2, 4, 4), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "AdaptiveAvgPool1d": ((2, 7), nn.AdaptiveAvgPool1d(3)),
    "AdaptiveAvgPool2d": ((2, 5, 4), nn.AdaptiveAvgPool2d((3, 2))),
    "global average": ((2, 5, 4), nn.AdaptiveAvgPool2d(1)),
    "AdaptiveAvgPool2d of one axis": ((2, 5, 4), nn.AdaptiveAvgPool2d((None, 1))),
    "MaxPool1d": ((2, 7), nn.MaxPool1d(3, 2, 1)),
    "MaxPool2d": ((2, 5, 6), nn.MaxPool2d(2)),
    "MaxPool2d, everything": (
        (2, 7, 6),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0), dilation=(1, 3), ceil_mode=True),
    ),
    "LeakyReLU": ((3,), nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.2, inplace=True))),
    "PReLU": ((3, 2), nn.Sequential(nn.PReLU(3), nn.PReLU(init=-0.5))),
    "ReLU6": ((3,), nn.Sequential(nn.Linear(3, 3), nn.ReLU6(inplace=True))),
    "Hardtanh": ((3,), nn.Hardtanh(-0.2, 0.7)),
    "ZeroPad2d": ((1, 2, 2), nn.ZeroPad2d((1, 0, 2, -1))),
    "ConstantPad1d": ((2, 3), nn.ConstantPad1d(2, 1.5)),
    "ReflectionPad2d": ((1, 3, 3), nn.ReflectionPad2d(2)),
    "ReplicationPad1d": ((1, 3), nn.ReplicationPad1d((1, 4))),
    "CircularPad2d": ((1, 3, 3), nn.CircularPad2d((1, 2, 3, 0))),
    "Upsample": ((1, 3, 2), nn.Upsample(scale_factor=2)),
    "Upsample to a size": ((2, 3), nn.Upsample(size=5)),
    "UpsamplingNearest2d": ((1, 3, 2), nn.UpsamplingNearest2d(scale_factor=3)),
}


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_layers(name: str) -> None:
    shape, module = SEQUENTIALS[name]
    module = module.double().eval()
    network = from_torch(module, shape, dtype=torch.float64)
    agree(module, network, Dice(0).normal(2, *shape))
