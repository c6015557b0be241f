"""The file of a certificate: what it holds, byte for byte, so that others can write a checker.

A safetensors file (https://huggingface.co/docs/safetensors): JSON and raw numbers, nothing that
could be executed. All tensors are float64, and hold the numbers of the solve exactly. B is the
number of inputs, S of rows, k counts the ReLUs in the network's order, and N_k is the number of
unstable neurons (lower < 0 < upper) of ReLU k over all inputs, listed input by input, each in flat
order.

| tensor | shape | what |
|---|---|---|
| `input.lower`, `input.upper` | (B, *input shape) | the box that the inputs lie in |
| `input.centre`, `input.radius` | (B, *input shape), (B,) | of "l1" and "l2" sets: the ball |
| `C`, `d` | (B, S, *output shape), (B, S) | the rows ⟨C, net(x)⟩ + d |
| `relu.k.lower`, `relu.k.upper` | (B, *shape) | l ≤ ẑ ≤ u |
| `relu.k.side` | (B, *shape) | of a relaxation that is split: 1 where ẑ ≥ 0 is kept of an \
unstable neuron, −1 where ẑ ≤ 0 is, else 0 |
| `multipliers.k` | (N_k, S) | ν of the unstable neurons |
| `x` | (B, S, *input shape) | a point of the input set |
| `z.k` | (N_k, S) | z of the unstable neurons, to be clamped into their triangles |
| `lower`, `upper` | (B, S) | the claims; −inf and inf claim nothing |

The metadata has one entry, `bounds.certificate`, a JSON object:

| key | what |
|---|---|
| `format` | 1 |
| `network` | the digest of the network, see `network_digest` |
| `input_set` | "box", "l1" or "l2" (the ball of that norm within the box) |
| `intermediate`, `slope` | how l and u were found; "given" if they were not |
| `method` | that found the multipliers |
| `versions` | of bounds, torch and Python |
| `digest` | SHA-256 of everything else, see `content_digest` |

The claims: lower ≤ LP optimum ≤ upper, in real arithmetic, for the LP that these l and u make; and
l, u hold for the network, so that lower is a bound of the network too, unless they were given. Of a
relaxation that is split, l or u is 0 in the LP where one side is kept, and lower is a bound of the
network for the inputs that are on these sides.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from bounds import __version__
from bounds.files import write_file
from bounds.network.affine import Affine, Linear
from bounds.network.graph import AffineNode, Network
from bounds.network.sparse import SparseLinear

FORMAT = 1
KEY = "bounds.certificate"


def write_certificate(
    path: str | PathLike[str], tensors: Mapping[str, Tensor], statement: Mapping[str, Any]
) -> None:
    """Write the tensors of the first table, and the statement of the second, which gets its format,
    versions and digest here."""
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    arrays["lower"] = np.nan_to_num(arrays["lower"], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    arrays["upper"] = np.nan_to_num(arrays["upper"], nan=np.inf, posinf=np.inf, neginf=-np.inf)
    whole = {**statement, "format": FORMAT, "versions": versions()}
    whole["digest"] = content_digest(whole, arrays)
    write_file(path, save(arrays, metadata={KEY: json.dumps(whole)}))


def versions() -> dict[str, str]:
    """Of what wrote a file."""
    return {
        "bounds": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def content_digest(statement: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the statement without its digest, as JSON with sorted keys, and then of each
    tensor in the order of the names: the name, the shape as JSON, and the numbers, little-endian.
    """
    digest = hashlib.sha256()
    digest.update(json_bytes({key: statement[key] for key in statement if key != "digest"}))
    for name in sorted(arrays):
        digest.update(name.encode() + json_bytes(list(arrays[name].shape)))
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f8").tobytes())
    return digest.hexdigest()


def network_digest(network: Network) -> str:
    """SHA-256 of what the network computes: for each node the JSON [kind, shape, parents], and for
    an affine one its operation, field by field; numbers as float64, indices as int64,
    little-endian.

    Names are no part of it, and neither is the dtype: float32 weights have the same digest in
    float64; nor is the sign of zeros among the weights of dense layers, or whether they are left
    out.
    """
    digest = hashlib.sha256()
    for node in network.nodes:
        digest.update(json_bytes([type(node).__name__, list(node.shape), list(node.parents)]))
        if isinstance(node, AffineNode):
            _update_operation(digest, node.operation)
    return digest.hexdigest()


def _update_operation(digest: hashlib._Hash, operation: Affine) -> None:
    if isinstance(operation, SparseLinear):
        operation = operation.dense
    digest.update(json_bytes(type(operation).__name__))
    for field in fields(operation):
        value = getattr(operation, field.name)
        digest.update(field.name.encode())
        if isinstance(value, Affine):
            _update_operation(digest, value)
        elif isinstance(value, Tensor):
            kind = "<f8" if value.is_floating_point() else "<i8"
            digest.update(json_bytes(list(value.shape)))
            array = value.detach().cpu().contiguous().numpy().astype(kind)
            # Pruning makes zeros of either sign.
            unsigned = isinstance(operation, Linear) and field.name == "weight"
            digest.update((array + 0.0 if unsigned else array).tobytes())
        else:
            digest.update(json_bytes(value))


def json_bytes(value: object) -> bytes:
    """As digests have it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().contiguous().numpy()
