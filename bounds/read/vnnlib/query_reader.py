"""VNN-LIB 2.0 → `Query`, by the parser of the standard itself, the package `vnnlib`.

That parser checks the syntax, the scopes and the types; here its tree becomes a `Query`. Refused by
name are types that no proof here covers: all but float32, float64 and real and, for what does not
depend on the inputs, integers.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bounds.errors import InvalidInputError
from bounds.read.vnnlib.comparisons import Comparison, Operation, Place, Step, nearest
from bounds.read.vnnlib.formula import Formula, connect
from bounds.read.vnnlib.query import Declaration, Declared, Kind, Query
from bounds.read.vnnlib.syntax import Malformed, Source, quoted
from bounds.read.vnnlib.terms import number

#: The parser recurses, and so ends the process where a file nests more deeply than its stack holds.
MAX_DEPTH = 2000
#: Numbers of all tensors together.
MAX_NUMBERS = 10_000_000

ELEMENTS = {
    **{"F32": "float32", "F64": "float64", "Real": "real"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"},
    **{"U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"},
}
INEXACT = ("float32", "float64", "real")
_VERSION = re.compile(r"(\s|;[^\n]*(\n|$))*\(\s*vnnlib-version")
_MINOR = re.compile(r"(vnnlib-version\s*)<2\.\d+>", re.ASCII)
_NESTING = re.compile(r';[^\n]*|"(?:[^"\\]|\\.)*"|[()]', re.DOTALL)
_HEADS = {
    "LessEqual": "<=",
    "LessThan": "<",
    "GreaterEqual": ">=",
    "GreaterThan": ">",
    "Equal": "==",
    "NotEqual": "!=",
}
_SYMBOLS = {"Negate": "-", "Minus": "-", "Plus": "+", "Multiply": "*"}


def is_query(source: Source) -> bool:
    """Whether a file says that it is of version 2."""
    return _VERSION.match(source.text) is not None


def read_query(path: str | os.PathLike[str]) -> Query:
    """Read a VNN-LIB 2.0 file, gzipped or not.

    Raises InvalidInputError for what cannot be read, is not VNN-LIB 2.0, or is not modelled.
    """
    return query_of(Source.read(path))


def parse_query(text: str, *, name: str = "text") -> Query:
    """The same for text; name: what errors call it."""
    return query_of(Source(name, text))


def query_of(source: Source) -> Query:
    try:
        import vnnlib
    except ImportError as error:
        raise InvalidInputError(
            f"VNN-LIB {source.name!r} is of version 2, which needs the package vnnlib: pip install "
            "'relu-bounds[vnnlib]'."
        ) from error
    _require_shallow(source)
    try:
        # Minor versions do not break: of other ones the parser tells at length, on standard error.
        tree = vnnlib.parse_query_string(_MINOR.sub(r"\1<2.0>", source.text, count=1))
    except vnnlib.VNNLibException as error:
        raise _refused(source, str(error)) from None
    except (ValueError, RuntimeError, OverflowError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInputError(
            f"VNN-LIB {source.name!r} is beyond the parser of the standard ({reason}): check its "
            "numbers."
        ) from None
    return _Reader(source, tree).read()


def _require_shallow(source: Source) -> None:
    depth = 0
    if "\0" in source.text:
        raise source.refusal(source.text.index("\0"), "this is a null character", "remove it")
    for match in _NESTING.finditer(source.text):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth > MAX_DEPTH:
            raise source.refusal(
                match.start(), f"over {MAX_DEPTH} nested parentheses", "flatten the formula"
            )


def _refused(source: Source, message: str) -> InvalidInputError:
    """What the parser says, in one sentence."""
    try:
        first = json.loads(message)["errors"][0]
        where = f", line {first['line']}" if first.get("line") else ""
        what = f"{first['message']} ({first['offendingSymbol']}): {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        where, what = "", message
    what = " ".join(what.split()).rstrip(".")
    return InvalidInputError(f"VNN-LIB {source.name!r}{where}: {what[:400]}.")


class _Reader:
    def __init__(self, source: Source, tree: Any) -> None:
        self.source, self.tree = source, tree

    def read(self) -> Query:
        networks = tuple(self._declaration(network) for network in self.tree.networks)
        if not networks:
            raise self._refusal("it declares no network", "write (declare-network …)")
        query = Query(self.source.name, networks, ())
        self._check(query)
        self.tensors: Mapping[str, Declared] = {t.name: t for t in query.tensors}
        self.starts = query.starts
        formulas = []
        for assertion in self.tree.assertions:
            try:
                formulas.append(self._formula(assertion.expr))
            except Malformed as error:
                found, remedy = error.args
                where = quoted(_text(assertion))
                raise self._refusal(f"in {where}, {found}", remedy) from None
        return replace(query, formulas=tuple(formulas))

    def _refusal(self, found: str, remedy: str) -> InvalidInputError:
        return InvalidInputError(f"VNN-LIB {self.source.name!r}: {found}; {remedy}.")

    # -- declarations

    def _declaration(self, network: Any) -> Declaration:
        return Declaration(
            str(network.name),
            tuple(self._declared(d, "input") for d in network.inputs),
            tuple(self._declared(d, "hidden") for d in network.hidden),
            tuple(self._declared(d, "output") for d in network.outputs),
            str(network.equal_to) or None,
            str(network.isometric_to) or None,
        )

    def _declared(self, definition: Any, kind: Kind) -> Declared:
        name, element = str(definition.name), ELEMENTS.get(definition.dtype.name)
        if element is None or (kind == "input" and element not in INEXACT):
            raise self._refusal(
                f"no proof here covers the type of {quoted(_text(definition))}",
                "declare it float32, float64 or real, which says that real numbers will do",
            )
        shape = tuple(int(size) for size in definition.shape)
        if min(shape, default=1) < 1 or math.prod(shape) > MAX_NUMBERS or len(shape) > 64:
            raise self._refusal(
                f"{name} has shape {str(list(shape))[:80]}",
                f"keep sizes positive and at most {MAX_NUMBERS} numbers",
            )
        node = None
        if kind == "hidden":
            node = re.sub(r"\\(.)", _unescaped, str(definition.onnx_name)[1:-1], flags=re.DOTALL)
        return Declared(name, kind, element, shape, node)

    def _check(self, query: Query) -> None:
        names = [tensor.name for tensor in query.tensors]
        names += [network.name for network in query.networks]
        for name in names:
            if names.count(name) > 1:
                raise self._refusal(f"{name} is declared twice", "use another name for one")
        if sum(tensor.size for tensor in query.tensors) > MAX_NUMBERS:
            raise self._refusal(
                f"its tensors have more than {MAX_NUMBERS} numbers", "declare smaller ones"
            )
        elements = {tensor.element for tensor in query.tensors}
        if "real" in elements and len(elements) > 1:
            raise self._refusal(
                f"it mixes real with {', '.join(sorted(elements - {'real'}))}",
                "declare every tensor as real, or none",
            )
        seen: dict[str, Declaration] = {}
        for network in query.networks:
            other = network.equal_to or network.isomorphic_to
            if other is not None:
                self._check_alike(network, seen.get(other), other)
            seen[network.name] = network

    def _check_alike(self, network: Declaration, like: Declaration | None, name: str) -> None:
        if network.equal_to and network.isomorphic_to:
            raise self._refusal(
                f"{network.name} is equal to one network and isomorphic to another", "say one"
            )
        if like is None or like.equal_to or like.isomorphic_to:
            raise self._refusal(
                f"{network.name} refers to {name}, which is no network before it that stands for "
                "itself",
                "refer to the first of its kind",
            )
        exact = network.equal_to is not None

        def ends(one: Declaration) -> list[Any]:
            return [
                (t.kind, t.shape, t.element if exact else None) for t in one.inputs + one.outputs
            ]

        if ends(network) != ends(like):
            raise self._refusal(
                f"{network.name} has other inputs or outputs than {name}", "declare the same"
            )

    # -- formulas

    def _formula(self, root: Any) -> Formula:
        """No recursion: children first."""
        found: list[Formula] = []
        pending: list[tuple[Any, bool]] = [(root, False)]
        while pending:
            node, ready = pending.pop()
            kind = type(node).__name__
            if kind in _HEADS:
                found.append(self._comparison(_HEADS[kind], node))
            elif not ready:
                pending.append((node, True))
                pending += [(child, False) for child in node.children()[::-1]]
            else:
                count = len(node.children())
                children = found[len(found) - count :]
                del found[len(found) - count :]
                found.append(connect("and" if kind == "And" else "or", children))
        return found[0]

    def _comparison(self, head: str, node: Any) -> Formula:
        sides = [_postfix(node.lhs), _postfix(node.rhs)]
        names = [step.name for side in sides for step in side if type(step).__name__ == "Var"]
        element = self.tensors[names[0]].element if names else "real"
        left, right = (tuple(self._step(step, element) for step in side) for side in sides)

        def compared(sign: str) -> Comparison:
            return Comparison(sign, left, right, element)

        if head == "==":
            return connect("and", [compared("<="), compared(">=")])
        if head == "!=":
            return connect("or", [compared("<"), compared(">")])
        return compared(head)

    def _step(self, step: Any, element: str) -> Step:
        if isinstance(step, Operation):
            return step
        if type(step).__name__ == "Var":
            name, place = str(step.name), 0
            for index, size in zip(step.indices, self.tensors[name].shape, strict=True):
                if not 0 <= index < size:
                    raise Malformed(f"{name} has no place {step.indices}", "count from 0")
                place = place * size + int(index)
            return Place(self.starts[name] + place)
        text = str(step.lexeme)
        try:
            return nearest(number(text), element)
        except OverflowError:
            raise Malformed(
                f"{quoted(text)} is beyond the range of {element}", "use a smaller number"
            ) from None


def _postfix(root: Any) -> list[Any]:
    """The variables and constants of the parser's tree, operands before operations."""
    found: list[Any] = []
    pending = [root]
    while pending:
        node = pending.pop()
        kind = type(node).__name__
        if kind in _SYMBOLS:
            children = node.children()
            found.append(Operation(_SYMBOLS[kind], len(children)))
            pending += children
        else:
            found.append(node)
    return found[::-1]


def _text(node: Any) -> str:
    """What the parser read, on one line."""
    return re.sub(r"\s+", " ", str(node)).replace(" [", "[").strip()


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(match[1], match[1])
