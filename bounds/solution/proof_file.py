"""The file of a proof: what it holds, byte for byte, so that others can write a checker.

It proves that a network has no unsafe output for any input of some sets, the *cases*. An output is
unsafe where all rows ⟨C, y⟩ + d of one of the case's *disjuncts* are at most 0. Each disjunct is
excluded by a tree: its root stands for the whole case, an inner node is split in two parts that
cover it, and a leaf says why its part has no output in the disjunct.

A safetensors file (https://huggingface.co/docs/safetensors): JSON and raw numbers, nothing that
could be executed. "int" is the smallest of uint8, uint16, uint32 and uint64 that holds all of a
tensor's numbers. Lists are written one after another, and a tensor says how many items each has. B
cases have K disjuncts with R rows and N nodes in all; the neurons of a network are those of its
ReLUs, M in all, one ReLU after another in the order of the nodes, each in flat order.

| tensor | type | shape | what |
|---|---|---|---|
| `case.number` | int | (B,) | which of the inputs or cases that were asked about |
| `case.lower`, `case.upper` | float64 | (B, *input shape) | the box of inputs |
| `case.disjuncts` | int | (B,) | how many disjuncts it has |
| `disjunct.rows` | int | (K,) | how many rows it has |
| `row.terms` | int | (R,) | how many numbers of C are listed, the others being 0 |
| `row.output`, `row.coefficient` | int, float64 | (Σ terms,) | of which output, and the number |
| `row.d` | float64 | (R,) | |
| `disjunct.nodes` | int | (K,) | how many nodes its tree has |
| `node.kind` | uint8 | (N,) | a split (0), or a leaf that is closed by: the fixed slope (1), the \
adaptive slope (2), cuts (3), multipliers (4) |
| `split.at` | int | (splits,) | the coordinate of the flat input, or, counted on after these, the \
neuron |
| `split.place` | float64 | (splits of inputs,) | t |
| `leaf.row` | int | (leaves 1 and 2,) | which of the disjunct's rows is positive |

The nodes of a tree are in an order in which its k-th split, k = 0, 1, …, has nodes 2k + 1 and
2k + 2 as children: first x_j ≤ t and then x_j ≥ t, or first ẑ ≤ 0 and then ẑ ≥ 0. A tree splits
inputs or neurons, and not both.

*Splits of inputs.* What is known of a node: its box, and ReLU inputs that are never negative, or
never positive, on its parent's box. From these follow l ≤ ẑ ≤ u, ReLU by ReLU, from intervals and,
for neurons that stay unstable, from backward passes with the adaptive slope
(`bounds/dual/fixed_slope.py`). Leaves 1 and 2: the backward pass from the row with that slope has a
positive value. A node that is split, and leaf 3: the linear bounds of all rows by both slopes cut
its box first, see `bounds/search/clipping.py`; of leaf 3 nothing is left, and a node that is split
is so after the cut. Boxes, l and u are not in the file: whoever checks it computes its own.

Where backward passes from all unstable neurons are dear, l and u are first carried forward, as
`bounds/intermediate/forward.py` does, and some nodes have no others. In files with such trees:

| tensor | type | shape | what |
|---|---|---|---|
| `disjunct.forward` | uint8 | (K,) | 1 where l and u in its tree are carried forward first |
| `node.forward` | uint8 | (⌈N / 8⌉,) | a bit for each node, the highest first: whether it has no \
backward passes then |

*Leaf 4*, of trees that split neurons or nothing, takes l and u of the whole case by the case's
recipe, and multipliers from a refutation, which leaves may share. In files that have such leaves:

| tensor | type | shape | what |
|---|---|---|---|
| `case.bounds` | uint8 | (B,) | the recipe: "interval" (0), "backward" with the slope "fixed" (1) \
or "adaptive" (2), or stated (3) |
| `case.neurons` | uint8 | (B, ⌈M / 8⌉) | a bit for each neuron, the highest first: whether \
refutations have its ν |
| `disjunct.refutations` | int | (K,) | how many refutations it has |
| `leaf.refutation` | int | (leaves 4,) | which of its disjunct's |
| `refutation.phases` | int | (Q,) | how many phases it needs |
| `phase.literal` | int | (Σ phases,) | 2 · neuron, and 1 more where it needs ẑ ≥ 0 and not ẑ ≤ 0 |
| `refutation.weights` | float64 | (Σ rows of its disjunct,) | λ |
| `refutation.bytes` | uint8 | (Q,) | of each ν: 2, 4 or 8 |
| `multipliers.present` | uint8 | (Σ ⌈neurons of the case that have ν / 8⌉,) | of each refutation \
a bit for each of these, the highest first: whether ν is not 0 |
| `multipliers.f16`, `.f32`, `.f64` | floats | those present | ν, of the refutations with 2, 4 and \
8 bytes |

With the vertices (ẑ, z) of what l, u and the needed phases leave of each neuron's triangle,

    constant + min over the case of ⟨c, x⟩ + Σ over the neurons of min over the vertices of
    (ĉ z − ν ẑ)  >  0

holds for the row Σ λ_r (⟨C_r, y⟩ + d_r), where ĉ arrives at z from later layers and ν goes on to
ẑ, and the phases are some of those on the leaf's path. Of a neuron without a ν in the file, ν is
ĉ where l ≥ 0, and 0 elsewhere.

*Bounds under phases.* A refutation may be a bound instead: wherever its phases hold and all rows of
the disjunct are at most 0, one neuron has ẑ ≥ t ≤ 0, or ẑ ≤ t ≥ 0. It is proved by the same
inequality, with the part that it excludes in the place of that neuron's l ≤ ẑ ≤ u: l ≤ ẑ ≤ t, or
t ≤ ẑ ≤ u. The vertices of the part are its two ends; where it is empty, the bound holds anyway.
Refutations and bounds may use bounds of the same disjunct all of whose phases are among their own:
their t are in the place of l or u, where they are tighter, before anything else. What is used has
to hold too, and no leaf names a bound. In files that have such bounds:

| tensor | type | shape | what |
|---|---|---|---|
| `refutation.bound` | int | (Q,) | 0 where it refutes; else 1 + 2 · neuron, and 1 more where it \
is an upper bound |
| `refutation.end` | float64 | (bounds,) | t |
| `refutation.uses` | int | (Q,) | how many bounds it uses |
| `use.refutation` | int | (Σ uses,) | which of its disjunct's, each smaller than its own number |

*Stated bounds* begin with the better of recipes 1 and 2, which are followed each by itself; and
then, ReLU by ReLU, some numbers ẑ or −ẑ are bounded from below with multipliers of the file, which
are as those of refutations, with the l and u that are found by then. In files that have such cases:

| tensor | type | shape | what |
|---|---|---|---|
| `bound.counts` | int | (B · ReLUs,) | of each case and ReLU, how many bounds it has |
| `bound.of` | int | (Σ counts,) | 2 · neuron, and 1 more where it is the upper one |
| `bound.present` | uint8 | (Σ ⌈neurons of earlier ReLUs that have ν / 8⌉,) | as \
`multipliers.present` |
| `bound.multipliers` | float32 | those present | ν |

The metadata has one entry, `bounds.proof`, a JSON object:

| key | what |
|---|---|
| `format` | 1 |
| `network` | the digest of the network, see `bounds.solution.certificate_file.network_digest` |
| `of` | "property" (every case of one) or "inputs" (of a data set) |
| `versions` | of bounds, torch and Python |
| `digest` | SHA-256 of everything else, see `proof_digest` |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from safetensors.numpy import save

from bounds.files import write_file
from bounds.solution.certificate_file import json_bytes, versions

FORMAT = 1
KEY = "bounds.proof"
#: What `node.kind` has.
SPLIT, FIXED, ADAPTIVE, CUT, MULTIPLIERS = range(5)
#: What `case.bounds` has.
INTERVAL, BACKWARD_FIXED, BACKWARD_ADAPTIVE, STATED = range(4)


def write_proof(
    path: str | PathLike[str], arrays: Mapping[str, np.ndarray], statement: Mapping[str, Any]
) -> int:
    """Write the tensors, and the statement, which gets its format, versions and digest here; the
    size of the file in bytes."""
    content = sealed(KEY, FORMAT, arrays, statement)
    write_file(path, content)
    return len(content)


def sealed(
    key: str, format: int, arrays: Mapping[str, np.ndarray], statement: Mapping[str, Any]
) -> bytes:
    """A safetensors file whose metadata has the statement under this key, with its format, the
    versions of what writes it and a digest."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    whole = {**statement, "format": format, "versions": versions()}
    whole["digest"] = proof_digest(whole, arrays)
    content: bytes = save(arrays, metadata={key: json.dumps(whole)})
    return content


def proof_digest(statement: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the statement without its digest, as JSON with sorted keys, and then of each
    tensor in the order of the names: the name, its type and shape as JSON, and the numbers,
    little-endian."""
    digest = hashlib.sha256()
    digest.update(json_bytes({key: statement[key] for key in statement if key != "digest"}))
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(name.encode() + json_bytes([array.dtype.name, list(array.shape)]))
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def whole_numbers(values: Any) -> np.ndarray:
    """In the smallest unsigned type that holds them all."""
    array = np.asarray(values, dtype=np.int64)
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))
