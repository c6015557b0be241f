"""`bounds attribute`: what makes bounds loose."""

from __future__ import annotations

import argparse

from bounds.analysis.attribute import attribute
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, load_problem, require_writable
from bounds.files import require_plot


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.plot)
    if options.plot is not None:
        require_plot("--plot", options.plot)
    console = console_for(highlight=False)
    network = load_model(options)
    ball, rows = load_problem(options, network)
    with console.status("one pass, the LPs of every l and u, and the true minima"):
        found = attribute(network, ball, rows, time_limit=options.timeout, seed=options.seed)
    console.print(found.table(), soft_wrap=True, markup=False)
    input, row = divmod(int(found.fixed_slope.argmin()), found.fixed_slope.shape[1])
    worst = found.worst(input, row)
    if worst:
        console.print(
            f"input {input}, row {row}: "
            + ", ".join(f"{name} [{position}] costs {cost:.3g}" for name, position, cost in worst),
            soft_wrap=True,
            markup=False,
        )
    if options.json is not None:
        write_json(options.json, {"model": options.model, **found.to_dict()})
    if options.plot is not None:
        found.plot(options.plot, input=input, row=row)
    return 0 if bool((found.solved & found.closed).all()) else 1
