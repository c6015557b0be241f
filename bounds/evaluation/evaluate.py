"""`bounds.evaluate`: a classifier on a data set, at several radii."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from bounds.arguments import (
    class_labels,
    number_of_classes,
    real,
    require_floats,
    require_option,
    require_positive,
    require_whole,
    shown,
)
from bounds.certification.choice import Method
from bounds.engines.choice import EngineName, opened
from bounds.errors import InvalidInputError
from bounds.evaluation.normalised import PerChannel, normalised
from bounds.evaluation.proofs import proof_folder
from bounds.evaluation.radii import fractions_of
from bounds.evaluation.result import Evaluation, shard_of
from bounds.evaluation.run import Run, Watch
from bounds.evaluation.store import Store
from bounds.evaluation.work import Work
from bounds.network.graph import Network
from bounds.read.model import network_of, ordinary
from bounds.sets.ball import Ball
from bounds.solution.certificate_file import network_digest

CALL = "evaluate"


@torch.inference_mode(False)
@torch.no_grad()
def evaluate(
    model: Network | nn.Module | str | os.PathLike[str],
    x: Tensor,
    y: Tensor | int,
    *,
    radii: Sequence[float | str],
    norm: float = math.inf,
    lower: float | None = None,
    upper: float | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    timeout: float | None = None,
    method: Method = "auto",
    seed: int = 0,
    jobs: int | None = None,
    engine: EngineName = "processes",
    address: str | None = None,
    shard: tuple[int, int] | None = None,
    results: str | os.PathLike[str] | None = None,
    proofs: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """What becomes of every input at every radius: answered wrongly, attacked, proved, or open.

    One pass is tried on batches, from the largest radius down, and `certify` on each input and
    radius that it leaves. A proof holds for every smaller radius, a counterexample for every larger
    one: neither is looked for again. All proofs are in float64, on the CPU.

    Args:
        model: a `Network`, a torch module, or the path of an .onnx or .pt2 file. Counterexamples
            are replayed by bounds, over the reals.
        x, y: a batch of inputs, and one class an input, or one for all.
        radii: in the units of x; text such as "2/255" and "0.01" is taken as the exact number.
        norm, lower, upper: as for `Ball`; the box is a pair of numbers.
        mean, std: where given, the network is x ↦ model((x − mean) / std), a number a channel or
            one for all, so that radii and the box are in the units of the images.
        timeout: in seconds, for each input and radius that one pass leaves open; see `certify`.
        method, seed: as for `certify`.
        jobs: processes, of which there is one by default. More than one are started anew: a script
            that is run as a file needs `if __name__ == "__main__":`.
        engine, address: "ray" has the tasks done on a cluster of Ray (extra `cluster`), `jobs` at a
            time; default: as many as it has CPUs. It is the one that this process is connected to;
            or at the address HOST:PORT; or one that is running on this machine; or a new one of
            this machine alone. Only this process writes to the database and to the folder.
        shard: (I, N): only every N-th input, from the I-th, counted from 1.
        results: the path of an SQLite database that is written as results come. Where it is there
            already, it goes on with that: nothing is done twice. Radii that it does not have yet
            are added; what is returned is about all that it has.
        proofs: the path of a folder for files that prove whatever is proved, which `bounds check`
            proves again, all at once; it is made if it is missing. For norm=inf.
        names, title: what inputs and the whole are called in a report; default: their positions,
            and the path or class of the model.
        watch: is told how far it is, a `Progress`.

    Raises:
        InvalidInputError: what `Ball` and `certify` refuse, options out of range, or a database of
            something else, or that cannot be written.
        BoundsError: where processes end as soon as they begin, or Ray is not installed, or its
            cluster cannot be reached.

    >>> import torch
    >>> x, y = torch.tensor([[2.0, 0.0], [0.5, 0.0]]), 0
    >>> found = evaluate(torch.nn.Identity(), x, y, radii=["1/10", 0.5], results="run.sqlite")
    >>> [(result.image, result.status, result.method) for result in found.results][2:]
    [(1, 'proved', 'adaptive_slope'), (1, 'attacked', 'attack')]
    """
    fractions = fractions_of(CALL, radii)
    seed = require_whole(CALL, "seed", seed, least=0, most=2**63 - 1)
    require_option(CALL, "method", method, get_args(Method))
    if timeout is not None:
        timeout = require_positive(CALL, "timeout", timeout, "a positive time in seconds")
    x = ordinary(require_floats(CALL, "x", x)).detach().cpu()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    network = network_of(CALL, model, x, dtype=torch.float64, files=True).detach().to("cpu")
    network = normalised(CALL, network, mean, std)
    if x.shape == network.input_shape and not isinstance(model, nn.Module):
        x = x.unsqueeze(0)
    classes = number_of_classes(CALL, network.output_shape)
    low, high = _end("lower", lower), _end("upper", upper)
    folder = None if proofs is None else proof_folder(CALL, proofs, norm)
    for radius in fractions:  # what is wrong with a set is said before work begins
        ball = Ball(x, radius=radius, norm=norm, lower=low, upper=high)  # type: ignore[arg-type]
        ball.resolve(network.input_shape)
    labels = class_labels(CALL, y, len(x), classes).cpu()
    images = shard_of(CALL, shard, len(x))
    part = slice(images.start, images.stop, images.step)
    work = Work(
        network,
        images,
        x[part].contiguous().numpy(),
        tuple(labels[part].tolist()),
        tuple(fractions),
        norm,
        low,
        high,
        timeout,
        method,
        seed,
        folder is not None,
    )
    names = [str(number) for number in range(len(x))] if names is None else list(map(str, names))
    if len(names) != len(x):
        raise InvalidInputError(
            f"{CALL}(names) has {len(names)} names for {len(x)} inputs: give one an input."
        )
    path = _path(results)
    with opened(CALL, engine, jobs=jobs, address=address) as crew, closing(Store(path)) as store:
        about = _about(work, x, labels)
        every = store.claim(about, _shown(work, classes, title or model), fractions)
        asked = [k for k, radius in enumerate(every) if radius in fractions]
        run = Run(replace(work, radii=tuple(every)), store, names, asked, folder, watch)
        run.answer()
        run.evaluate(crew)
        every = store.radii()
        store.follow(every)
        return Evaluation(
            tuple(every.values()),
            tuple(image for image in store.images() if image.image in images),
            tuple(result for result in store.results() if result.image in images),
            tuple(sorted(run.lost)),
            run.warning,
        )


def _about(work: Work, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """What has to be the same where an evaluation goes on: options first, which say most."""
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.contiguous().numpy().tobytes())
    images = digest.hexdigest()
    return {
        "norm": str(work.norm),
        "box": [work.lower, work.upper],
        "timeout": work.timeout,
        "method": work.method,
        "seed": work.seed,
        "inputs": len(x),
        "model": network_digest(work.network),
        "images": images,
        "labels": hashlib.sha256(str(labels.tolist()).encode()).hexdigest(),
        **({"proofs": True} if work.proofs else {}),
    }


def _shown(work: Work, classes: int, model: object) -> dict[str, Any]:
    from bounds import __version__

    named = os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__
    return {
        "title": str(named),
        "input_shape": list(work.network.input_shape),
        "classes": classes,
        "version": __version__,
    }


def _end(name: str, value: object) -> float | None:
    """An end of the box; a number that a float is."""
    number = None if value is None else real(value)
    if number is not None and not (math.isfinite(number) and number == value):
        raise InvalidInputError(f"{CALL}({name}={shown(value)}): expected a finite number.")
    return number


def _path(results: object) -> str | os.PathLike[str] | None:
    if (
        results is None
        or isinstance(results, os.PathLike)
        or (isinstance(results, str) and results and "\0" not in results)
    ):
        return results
    raise InvalidInputError(
        f"{CALL}(results) got {shown(results)}, expected the path of a database to be written."
    )
