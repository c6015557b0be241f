"""The graph of an archive, computed by torch's own operators, one after the other.

A reader has found all of them in its tables: they are operators of ATen, of numbers alone. So the
model runs without any of the code, or the pickles, that an archive may hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bounds.network.build.base import MAX_IN_ALL, MAX_PRODUCTS
from bounds.network.graph import Network
from bounds.read.agreement import require_agreement
from bounds.read.export.aten import SKIPPED, operator, target_name, tensor_names

if TYPE_CHECKING:
    from bounds.read.export.reader import ExportReader


def compare(reader: ExportReader, network: Network, output: str) -> None:
    """Refuse a network that does not compute what the graph does."""
    build, batch = reader.build, reader.batch
    rows = batch or 1
    if rows * build.products > MAX_PRODUCTS or rows * build.numbers > MAX_IN_ALL:
        return  # an example of many samples, all of which every evaluation has to have

    def evaluate(x: Tensor) -> Tensor:
        if batch is None:
            return _evaluate(reader, x, output)
        rest = -len(x) % batch
        parts = torch.cat((x, x[:1].expand(rest, *x.shape[1:]))).split(batch)
        return torch.cat([_evaluate(reader, part, output) for part in parts])[: len(x)]

    call = f"from_export({reader.archive.path!r})"
    require_agreement(call, network, build, evaluate, reader.input_dtype)


def _evaluate(reader: ExportReader, x: Tensor, output: str) -> Tensor:
    values: dict[str, Any] = {reader.input_name: x.clone()}

    def lookup(name: str) -> Any:
        return values[name] if name in values else reader.lookup(name)

    for node in reader.nodes:
        target = target_name(node)
        names = [name for entry in node["outputs"] for name in tensor_names(entry)]
        known = all(isinstance(reader.values.get(name), Tensor) for name in names)
        if target in SKIPPED or (names and known):
            continue
        result = operator(target)(**reader.arguments(node, lookup))
        first = node["outputs"][0]
        if "as_sym_int" in first:
            values[first["as_sym_int"]["as_name"]] = result
            continue
        many = len(node["outputs"]) > 1 or "as_tensors" in first
        values.update(zip(names, result if many else [result], strict=True))
    found: Tensor = lookup(output)
    return found
