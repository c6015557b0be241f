"""The losses of training as modules, for what only wraps modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from bounds.arguments import require_type, shown
from bounds.errors import InvalidInputError
from bounds.training.robust_loss import robust_loss


class RobustLoss(nn.Module):
    """A loss of a model as a module, which `DistributedDataParallel` can wrap.

    Args:
        model: a module that the loss takes.
        loss: `robust_loss` or another one of the same form, such as `mixed_loss`. A call with x, y
            and its options is a call of it.

    Raises InvalidInputError for what is no module or no function; a call raises what the loss does.

    >>> import torch
    >>> loss = RobustLoss(torch.nn.Linear(2, 3))
    >>> loss(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), radius=0.1).loss.shape
    torch.Size([])
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Any] = robust_loss) -> None:
        super().__init__()
        require_type("RobustLoss", model, nn.Module, "pass the model itself")
        if not callable(loss):
            raise InvalidInputError(
                f"RobustLoss(loss={shown(loss)}): expected a function such as bounds.mixed_loss."
            )
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, y: Tensor | int, **options: Any) -> Any:
        """See the loss."""
        return self.loss(self.model, x, y, **options)
