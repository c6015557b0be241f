"""What the networks of a cascade leave to the next one, which is trained and measured on that.

Wong et al. 2018 (arXiv 1805.12514), section 3.3; see `bounds.cascade`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

import bounds
from bounds import CascadeAnswer
from examples.image_data import Data, Split

#: Images that are measured together in training, and after an epoch the test images that are.
CHUNK, MEASURED = 50, 1000


@dataclass(frozen=True, eq=False)
class Reaching:
    """What reaches a network of a cascade, because none before proves its own prediction there.

    train, test: indices of the training images and of the first `MEASURED` test images that do,
    int64. proved_wrong: how many of those test images a network before proves to be of another
    class than theirs; they are errors whatever this network does.
    """

    train: Tensor
    test: Tensor
    proved_wrong: int

    @staticmethod
    def everything(data: Data) -> Reaching:
        """What reaches the first network."""
        test = data.test.first(MEASURED)
        return Reaching(torch.arange(len(data.train)), torch.arange(len(test)), 0)


def left_by(
    models: Sequence[nn.Sequential],
    data: Data,
    *,
    radius: float,
    norm: float,
    device: torch.device,
    console: Console,
) -> Reaching:
    """What these networks do not prove within this radius, with pixels in [0, 1]; in float32."""
    models = [model.to(device) for model in models]
    test = data.test.first(MEASURED)
    columns = TextColumn("images left"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(data.train) + len(test))

        def answers(images: Split) -> CascadeAnswer:
            parts = []
            for chosen in torch.arange(len(images)).split(CHUNK):
                x = images.pixels(chosen, next(models[0].parameters()).detach())
                answer = bounds.cascade(models, x, radius=radius, norm=norm, lower=0.0, upper=1.0)
                parts.append((answer.stage.cpu(), answer.prediction.cpu()))
                progress.advance(task, len(x))
            return CascadeAnswer(*map(torch.cat, zip(*parts, strict=True)))

        train, tested = answers(data.train), answers(test)
    reaching = tested.stage < 0
    proved_wrong = int((tested.wrong(test.labels) & ~reaching).sum())
    return Reaching(
        (train.stage < 0).nonzero().flatten(), reaching.nonzero().flatten(), proved_wrong
    )
