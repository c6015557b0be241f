"""What the process that forks all others imports before it does: importing takes seconds."""

import torch._dynamo  # noqa: F401 - counting operations brings it along

from benchmarks.measure import cells, peers  # noqa: F401

for package in peers.REMEDIES:
    peers.absent(package)
