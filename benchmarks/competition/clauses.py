"""Little combinatorial problems as networks of one hidden layer: our search beside HiGHS' MILP.

A formula of clauses of three literals over 0 ≤ x ≤ 1: a neuron relu(1 − Σ literals) for each
clause, and min(x, 1 − x) for each input. The row, their sum, is at most 0 where all clauses hold
and every input is 0 or 1, which is what is asked. HiGHS is given the whole question as one integer
program: the network by a binary a neuron with the l and u that we search with, and the row as a
constraint; it says whether that is feasible, and proves nothing that can be checked.

    OMP_NUM_THREADS=1 python benchmarks/competition/clauses.py \\
        --json benchmarks/results/clauses.json

CPU seconds of one thread. Exit status 1 where the two disagree.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import scipy.optimize
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import bounds
from benchmarks.support import command, environment, journal
from benchmarks.support.journal import Record
from bounds.solvers.interior_point.condense import condense

#: Inputs, clauses an input (4.3 is about where half of all formulas have a solution), and seeds.
INPUTS, RATIOS, SEEDS = (20, 40, 60, 90), (4.0, 4.3, 6.0), (0, 1)
#: What the row must exceed: far less than the quarter that a rounded solution costs.
THRESHOLD = 0.01


def network_of(seed: int, *, inputs: int, clauses: int) -> bounds.Network:
    """The row of a drawn formula, and 0, as the two outputs."""
    generator = np.random.default_rng(seed)
    weight, bias = np.zeros((clauses + 2 * inputs, inputs)), np.zeros(clauses + 2 * inputs)
    for row in range(clauses):
        chosen = generator.choice(inputs, 3, replace=False)
        signs = generator.choice([-1.0, 1.0], 3)
        weight[row, chosen] = -signs
        bias[row] = 1 - (signs < 0).sum()
    for i in range(inputs):  # min(x, 1 − x) = x − relu(2 x − 1)
        weight[clauses + i, i], weight[clauses + inputs + i, i] = 2.0, 1.0
        bias[clauses + i] = -1.0
    out = np.concatenate([np.ones(clauses), -np.ones(inputs), np.ones(inputs)])
    model = nn.Sequential(nn.Linear(inputs, len(bias)), nn.ReLU(), nn.Linear(len(bias), 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(weight))
        model[0].bias.copy_(torch.from_numpy(bias))
        model[2].weight.copy_(torch.from_numpy(np.stack([out, 0 * out])))
        model[2].bias.copy_(torch.tensor([-THRESHOLD, 0.0]))
    return bounds.from_torch(model, (inputs,)).detach()


def ours(network: bounds.Network, timeout: float) -> tuple[str, float, int]:
    start = time.process_time()
    inputs = network.input_shape[0]
    found = bounds.certify(
        network, torch.full((1, inputs), 0.5).double(), 0, radius=0.5,
        method="relu_split", timeout=timeout,
    )  # fmt: skip
    domains = found.searches[0].domains if found.searches[0] is not None else 0
    return found.verdict, time.process_time() - start, domains


def highs(network: bounds.Network, timeout: float) -> tuple[str, float]:
    start = time.process_time()
    box = bounds.Box(*(torch.full((1, network.input_shape[0]), end).double() for end in (0.0, 1.0)))
    lp = condense(bounds.relax(network, box, bounds.margins(0, classes=2)))
    assert lp is not None
    n, d = lp.e.shape[1], lp.c_b.shape[2]
    AL, e, lower, upper = (t[0].numpy() for t in (lp.AL, lp.e, lp.lower, lp.upper))
    pre, on_z, eye = sp.csr_matrix(AL), sp.hstack([sp.csr_matrix((n, d)), sp.eye(n)]), sp.eye(n)
    none = sp.csr_matrix((n, n))
    objective = np.concatenate([lp.c_b[0, 0].numpy(), lp.c_z[0, 0].numpy(), np.zeros(n)])
    constraints = [
        scipy.optimize.LinearConstraint(sp.hstack([on_z - pre, none]), e, np.inf),
        scipy.optimize.LinearConstraint(
            sp.hstack([on_z - pre, sp.diags(-lower)]), -np.inf, e - lower
        ),
        scipy.optimize.LinearConstraint(sp.hstack([on_z, -sp.diags(upper) @ eye]), -np.inf, 0),
        scipy.optimize.LinearConstraint(objective[None], -np.inf, -float(lp.c_0[0, 0])),
    ]
    found = scipy.optimize.milp(
        np.zeros_like(objective),
        constraints=constraints,
        integrality=np.concatenate([np.zeros(d + n), np.ones(n)]),
        bounds=scipy.optimize.Bounds(0, np.concatenate([np.ones(d), upper, np.ones(n)])),
        options={"time_limit": timeout},
    )
    verdict = {0: "sat", 2: "unsat"}.get(found.status, "unknown")
    return verdict, time.process_time() - start


def measure(inputs: int, ratio: float, seed: int, timeout: float) -> Record:
    network = network_of(seed, inputs=inputs, clauses=round(ratio * inputs))
    verdict, seconds, domains = ours(network, timeout)
    theirs, other = highs(network, timeout)
    return {
        "verdict": verdict,
        "seconds": round(seconds, 3),
        "domains": domains,
        "milp": theirs,
        "milp_seconds": round(other, 3),
    }


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds each; %(default)s")
    console = Console()
    options = command.options_of(parser, console)
    torch.set_num_threads(1)
    fresh: Record = {
        "benchmark": "clauses",
        **environment.describe(torch.device("cpu")),
        "timeout": options.timeout,
        "formulas": {},
    }
    record = journal.resumed(options.json, fresh, same=("benchmark", "commit", "timeout"))
    done = record["formulas"]
    cells = [(i, r, s) for i in INPUTS for r in RATIOS for s in SEEDS]
    with journal.progress(console) as progress:
        bar = progress.add_task("formulas", total=len(cells), completed=len(done))
        for inputs, ratio, seed in cells:
            name = f"{inputs} inputs, {round(ratio * inputs)} clauses, seed {seed}"
            if name not in done:
                done[name] = measure(inputs, ratio, seed, options.timeout)
                journal.save(options.json, record)
                progress.advance(bar)
    table = Table(title="CPU seconds")
    for column in ("formula", "verdict", "domains", "ours", "HiGHS' MILP", "its verdict"):
        table.add_column(column)
    for name, each in done.items():
        table.add_row(
            name,
            each["verdict"],
            str(each["domains"]),
            f"{each['seconds']:.2f}",
            f"{each['milp_seconds']:.2f}",
            each["milp"],
        )
    console.print(table)
    against = [
        name for name, each in done.items() if {each["verdict"], each["milp"]} == {"sat", "unsat"}
    ]
    for name in against:
        console.print(f"[red]{name}: we disagree", highlight=False)
    return 1 if against else 0


if __name__ == "__main__":
    sys.exit(main())
