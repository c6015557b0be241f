"""Training in two processes is training in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bounds import RobustLoss
from bounds.models import load_digits_model
from tests.support.distributed_training import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Under torchrun, on gloo: each has half of the images, and DDP averages their gradients."""
    file = tmp_path / "weights.pth"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "tests.support.distributed_training", str(file)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    together = torch.load(file, weights_only=True)

    alone, begin = (load_digits_model("digits_standard").double() for _ in range(2))
    train(alone, RobustLoss(alone), slice(None))
    for name, tensor in alone.state_dict().items():
        assert (tensor - begin.state_dict()[name]).abs().max() > 1e-4  # it moved
        torch.testing.assert_close(together[name], tensor, rtol=1e-10, atol=1e-12)
