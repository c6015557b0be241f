"""Walks the graph of a torch.export archive: its operators become layers of a network.

The tables in `bounds.read.export.aten` translate them; what is in none is refused by name. Every
shape and dtype that the archive declares is compared with the one that the translation gives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bounds.errors import BoundsError, UnsupportedLayerError
from bounds.network.affine import Shape
from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.network.graph import Network
from bounds.read.export.archive import (
    DTYPES,
    SAVE_AGAIN,
    ExportArchive,
    first_line,
    short,
)
from bounds.read.export.aten import (
    ARGUMENT_NAMES,
    CONSTANTS,
    HANDLERS,
    SHAPE_ONLY,
    SKIPPED,
    STORAGE,
    Json,
    is_random,
    layer_name,
    operator,
    target_name,
    tensor_names,
)
from bounds.read.export.evaluation import compare
from bounds.read.operations import is_view, require_samples_alike
from bounds.read.operations.common import BATCH, unsupported

#: A sample with more numbers than this is taken for a damaged file rather than for a network.
MAX_NUMBERS = 2**28


def _without_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_numbers(part) for part in value]
    return value.to("meta") if isinstance(value, Tensor) else value


class ExportReader:
    """Walks the graph: what depends on the input becomes nodes, all else stays a constant."""

    def __init__(
        self, archive: ExportArchive, dtype: torch.dtype | None, *, drop_softmax: bool
    ) -> None:
        self.archive = archive
        module: Json = archive.program["graph_module"]
        self.nodes: list[Json] = module["graph"]["nodes"]
        self.signature: Json = module["signature"]
        self.declared: Json = module["graph"]["tensor_values"]
        self.stored: dict[str, tuple[str, str]] = {}  # name in the graph → arguments of `tensor`
        self.values: dict[str, Any] = {}
        self.left_out: set[str] = set()  # results that are not modelled, such as places of maxima
        self.producers: dict[str, Json] = {}
        self.input_name = self._read_inputs()
        self.input_dtype = self._declared_dtype(self.input_name)
        self.batch = self.declared[self.input_name]["sizes"][0].get("as_int")  # None: dynamic
        self.build = NetworkBuilder(
            *(self._declared_sample(self.input_name), dtype or self.input_dtype),
            torch.device("cpu"),
            model_dtype=self.input_dtype,
            drop_softmax=drop_softmax,
        )
        self.values[self.input_name] = self.build.input
        self.readers = Counter(
            name
            for node in self.nodes
            if target_name(node) not in SHAPE_ONLY
            for name in {name for entry in node["inputs"] for name in tensor_names(entry["arg"])}
        )

    def read(self) -> Network:
        """The network, once it is seen to compute what the graph does."""
        specs = self.signature["output_specs"]
        if len(specs) != 1 or "user_output" not in specs[0]:
            kinds = sorted({kind for spec in specs for kind in spec})
            raise self._unsupported(
                f"the model returns {len(specs)} values ({short(kinds)})",
                "wrap it so that it returns its logits alone and changes no state",
            )
        (name,) = tensor_names(specs[0]["user_output"]["arg"])
        self.readers[name] += 1
        for node in self.nodes:
            self._read_node(node)
        output = self.lookup(name)
        if not isinstance(output, Symbol):
            raise self._unsupported(
                "the model's output does not depend on its input",
                "wrap it so that it returns its logits",
            )
        network = self.build.finish(output)
        compare(self, network, name)
        return network

    def _read_inputs(self) -> str:
        """Notes where each parameter, buffer and constant is; returns the name of the input."""
        inputs: list[str] = []
        for spec in self.signature["input_specs"]:
            ((kind, entry),) = spec.items()
            match kind:
                case "user_input":
                    inputs.extend(tensor_names(entry["arg"]))
                case "parameter":
                    self.stored[entry["arg"]["name"]] = ("weights", entry["parameter_name"])
                case "buffer":
                    folder = "weights" if entry["persistent"] else "constants"
                    self.stored[entry["arg"]["name"]] = (folder, entry["buffer_name"])
                case "tensor_constant":
                    name = entry["tensor_constant_name"]
                    self.stored[entry["arg"]["name"]] = ("constants", name)
                case "constant_input":
                    pass  # a flag, whose value is already written into the graph
                case _:
                    raise self._unsupported(
                        f"the model takes a {short(kind)}", "export a model of one input tensor"
                    )
        if len(inputs) != 1:
            raise self._unsupported(
                f"the model takes {len(inputs)} input tensors", "export a model of one input tensor"
            )
        return inputs[0]

    # -- nodes -----------------------------------------------------------------------------------

    def _read_node(self, node: Json) -> None:
        target = target_name(node)
        self.build.at = layer_name(node)
        if target in SKIPPED:
            return
        if target not in HANDLERS and is_random(target):
            raise self.build.refuse(
                f"{target} draws random numbers, so that the outputs for one input differ",
                "call model.eval() before the export, or leave it out of forward",
            )
        if target not in HANDLERS and target not in CONSTANTS:
            raise unsupported(self.build, target)
        given = self.arguments(node, self.lookup)
        arguments = {ARGUMENT_NAMES.get(name, name): value for name, value in given.items()}
        self._check_in_place(node, target)
        output = node["outputs"][0]
        try:
            flat = [v for a in arguments.values() for v in (a if isinstance(a, list) else [a])]
            if any(isinstance(v, Symbol) or v is BATCH for v in flat):
                result = self._translate(target, arguments)
            else:
                result = self._compute(target, given)
        except BoundsError:
            raise
        except Exception as error:  # an argument that the handler or torch does not take
            what = f"{target} as called here ({first_line(error)})"
            raise unsupported(self.build, what) from error
        if "as_sym_int" in output:
            self.values[output["as_sym_int"]["as_name"]] = result
            return
        many = len(node["outputs"]) > 1 or "as_tensors" in output
        results = result if many else [result]
        names = [name for entry in node["outputs"] for name in tensor_names(entry)]
        for name, part in zip(names, results, strict=False):
            if part is None:
                self.left_out.add(name)
                continue
            self._check_declared(name, part)
            self.values[name], self.producers[name] = part, node

    def _translate(self, target: str, arguments: dict[str, Any]) -> Any:
        handler = HANDLERS.get(target)
        if handler is None:
            raise unsupported(self.build, target)
        require_samples_alike(self.build, handler, arguments.values())
        shape = arguments.get("shape")
        if shape and self.batch is not None and shape[0] == self.batch:
            arguments = {**arguments, "shape": [BATCH, *shape[1:]]}
        return handler(self.build, **arguments)

    def _compute(self, target: str, arguments: dict[str, Any]) -> Any:
        if target not in CONSTANTS:
            raise unsupported(self.build, f"{target} of parameters or constants alone")
        # Without numbers first: broadcasting can ask for far more memory than the file has bytes.
        with torch.device("meta"):
            trial = operator(target)(**{k: _without_numbers(v) for k, v in arguments.items()})
        for part in trial if isinstance(trial, tuple) else (trial,):
            self._require_sane(part.numel())
        return operator(target)(**arguments)

    def arguments(self, node: Json, lookup: Callable[[str], Any]) -> dict[str, Any]:
        """By the names of the operator's schema."""
        return {
            entry["name"]: self._value(entry["arg"], lookup)
            for entry in node["inputs"]
            if entry["name"] not in STORAGE
        }

    def _check_in_place(self, node: Json, target: str) -> None:
        """A change in place is the plain operation only where nothing else reads that memory."""
        if not target.split(".")[0].endswith("_") or is_view(HANDLERS[target]):
            return
        (name,) = tensor_names(node["inputs"][0]["arg"])
        if not isinstance(self.lookup(name), Symbol):
            raise self.build.refuse(
                "it changes a parameter or buffer in place, so the output depends on earlier calls",
                "call model.eval() and keep state out of forward",
            )
        while True:
            if self.readers[name] > 1:
                raise self.build.refuse(
                    "it changes in place a tensor that is used elsewhere",
                    "use the variant that is not in place",
                )
            producer = self.producers.get(name)
            if producer is None or not is_view(HANDLERS.get(target_name(producer))):
                return
            (name,) = tensor_names(producer["inputs"][0]["arg"])

    # -- values ----------------------------------------------------------------------------------

    def _value(self, argument: Json, lookup: Callable[[str], Any]) -> Any:
        ((kind, value),) = argument.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return lookup(value["name"])
            case "as_tensors":
                return [lookup(tensor["name"]) for tensor in value]
            case "as_optional_tensor":
                return self._value(value, lookup)
            case "as_optional_tensors":
                return [self._value(tensor, lookup) for tensor in value]
            case "as_sym_int":
                return lookup(value["as_name"]) if "as_name" in value else value["as_int"]
            case "as_sym_ints":
                return [lookup(v["as_name"]) if "as_name" in v else v["as_int"] for v in value]
            case "as_float":
                return float(value)  # infinities and NaN are written as strings
            case "as_floats":
                return [float(number) for number in value]
            case "as_scalar_type":
                return DTYPES.get(value)
            case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_memory_format":
                return value
        raise unsupported(self.build, f"an argument of kind {short(kind)}")

    def lookup(self, name: str) -> Any:
        if name in self.left_out:
            raise unsupported(self.build, f"{name}, which it reads,")
        if name not in self.values and name in self.stored:
            tensor = self.archive.tensor(*self.stored[name])
            self._check_declared(name, tensor)
            self.values[name] = tensor
        return self.values[name]

    # -- what the archive declares -----------------------------------------------------------------

    def _check_declared(self, name: str, result: Any) -> None:
        dtype = self._declared_dtype(name)
        if isinstance(result, Symbol):
            if dtype != self.input_dtype:
                raise self.build.refuse(
                    f"it turns {self.input_dtype} into {dtype}", "keep the model in one dtype"
                )
            batch = self.declared[name]["sizes"][0].get("as_int")
            agrees = batch == self.batch and self._declared_sample(name) == result.shape
        else:
            sizes = [size.get("as_int") for size in self.declared[name]["sizes"]]
            agrees = dtype == result.dtype and sizes == list(result.shape)
        if not agrees:
            raise self.archive.refuse(
                f"its graph declares another shape or dtype for {short(name)} than is found"
            )

    def _declared_dtype(self, name: str) -> torch.dtype:
        number = self.declared[name]["dtype"]
        if number not in DTYPES:
            raise self.archive.refuse(
                f"{short(name)} has dtype number {short(number)}, expected real numbers",
                f"convert the model to float32 or float64 and {SAVE_AGAIN}",
            )
        return DTYPES[number]

    def _declared_sample(self, name: str) -> Shape:
        """The shape without the batch axis."""
        sizes = [size.get("as_int") for size in self.declared[name]["sizes"][1:]]
        if None in sizes:
            raise self._unsupported(
                f"axis {sizes.index(None) + 1} of {short(name)} has no fixed size",
                "export with no dynamic axis but the batch",
            )
        self._require_sane(math.prod(sizes))
        return tuple(sizes)

    def _require_sane(self, numbers: int) -> None:
        if numbers > MAX_NUMBERS:
            raise self.archive.refuse(
                f"it has a tensor of {numbers} numbers, expected at most {MAX_NUMBERS}",
                "export a smaller model",
            )

    def _unsupported(self, what: str, remedy: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"from_export({self.archive.path!r}): {what}; {remedy}.")
