"""What the process that forks all others imports before it does: importing takes seconds."""

import torch._dynamo  # noqa: F401 - counting operations brings it along

from benchmarks.measure import cells, peers  # noqa: F401
from bounds import relax, solve  # noqa: F401 - which brings all methods along

for package in peers.REMEDIES:
    peers.absent(package)
