"""Proofs for the tests of the checker: of searches, of trees that are made here, and edits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

import bounds
from bounds.intermediate.kept import Kept
from bounds.read.vnnlib import parse_vnnlib
from bounds.read.vnnlib.property import Property
from bounds.search.proof import CaseProof, Proof
from bounds.search.relu_tree import Neuron, Refutation, ReluTree
from bounds.solution.proof_file import KEY, proof_digest
from tests.support.networks import Dice
from tests.support.referee import random_net
from tests.support.vnnlib_texts import file

Statement = dict[str, Any]
Arrays = dict[str, np.ndarray]
Edit = Callable[[Statement, Arrays], object]


def contents(path: Path) -> tuple[Statement, Arrays]:
    with safe_open(path, framework="numpy") as file:
        statement = json.loads(file.metadata()[KEY])
        return statement, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def edit(path: Path, change: Edit, *, sealed: bool = True) -> Path:
    """An edited copy beside the file; sealed: with the digest of what it holds then."""
    statement, arrays = contents(path)
    change(statement, arrays)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if sealed:
        statement["digest"] = proof_digest(statement, arrays)
    copy = path.with_name("edited.proof")
    save_file(arrays, copy, metadata={KEY: json.dumps(statement)})
    return copy


def reasons(check: bounds.ProofCheck) -> str:
    """All of them, a line each."""
    return "\n".join(map(str, check.rejections))


def unstable_neurons(relaxation: bounds.Relaxation) -> list[Neuron]:
    return [
        (k, i)
        for k, neurons in enumerate(relaxation.relu_bounds)
        for i in neurons.unstable[0].flatten().nonzero().flatten().tolist()
    ]


def phases_of(relaxation: bounds.Relaxation, phases: dict[Neuron, int]) -> list[Tensor]:
    found = [torch.zeros_like(neurons.lower) for neurons in relaxation.relu_bounds]
    for (k, i), sign in phases.items():
        found[k].view(-1)[i] = sign
    return found


def refutation(
    relaxation: bounds.Relaxation, phases: dict[Neuron, int], weights: Tensor
) -> tuple[Refutation, float]:
    """With the best ν for these phases and the mixture of rows; and the LP's lower bound."""
    mixed = bounds.Relaxation(
        relaxation.network,
        relaxation.input_set,
        torch.einsum("r,r...->...", weights, relaxation.C[0])[None, None],
        (weights * relaxation.d[0]).sum()[None, None],
        relaxation.relu_bounds,
        relaxation.intermediate,
        relaxation.slope,
    )
    if phases:
        mixed = mixed.split(phases_of(relaxation, phases))
    solution = bounds.solve(mixed, method="simplex")
    nu = tuple(each[0, 0].flatten() for each in solution.certificate.multipliers)
    return Refutation(phases, weights, nu), float(solution.lower)


def whole_tree(
    relaxation: bounds.Relaxation, neurons: Sequence[Neuron], weights: Sequence[Tensor], dice: Dice
) -> tuple[ReluTree, list[float]]:
    """All phases of these neurons, in this order, each leaf by one of the mixtures; and what the
    leaves' LPs are at least."""
    tree, values = ReluTree(), []
    first = {(): 0}
    for depth, neuron in enumerate(neurons):
        for path in itertools.product((1, -1), repeat=depth):
            node, number = first[path], len(first)
            first[(*path, 1)], first[(*path, -1)] = number, number + 1
            tree.splits[node] = (neuron, number, number + 1)
    for path in itertools.product((1, -1), repeat=len(neurons)):
        mixture = weights[int(dice.below(len(weights), 1))]
        phases = dict(zip(neurons, path, strict=True))
        found, value = refutation(relaxation, phases, mixture)
        tree.leaves[first[path]] = len(tree.refutations)
        tree.refutations.append(found)
        values.append(value)
    return tree, values


def save(
    path: Path, relaxation: bounds.Relaxation, tree: Any, stated: Sequence[Kept] | None = None
) -> bounds.ProofFile:
    """A proof about all rows of the relaxation's one input as one disjunct."""
    proof = Proof()
    proof.add(0, CaseProof(relaxation, [list(range(relaxation.d.shape[1]))], [tree], stated))
    return proof.save(path, relaxation.network, of="inputs")


def hard_property(margin: float = 0.02) -> tuple[bounds.Network, Property]:
    """A network of which no output is as low on the unit cube as the property would have both, by
    this much."""
    network = random_net(3, 16, 16, 2, scale=2.5)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 41).double()] * 3)
    worst = float(network(grid).amax(1).min())
    box = [(">=", ("X", j), "0") for j in range(3)] + [("<=", ("X", j), "1") for j in range(3)]
    rows = [("<=", ("Y", k), f"{worst - margin:.6f}") for k in range(2)]
    return network, parse_vnnlib(file([*box, *rows], inputs=3, outputs=2))
