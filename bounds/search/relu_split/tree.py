"""Subtrees that are closed, and the record of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bounds.search.relu_split.clauses import Literal
from bounds.search.relu_split.region import Lemma
from bounds.search.relu_tree import Neuron, Refutation, ReluTree


@dataclass(frozen=True, eq=False)
class Leaf:
    """refutation: its number."""

    refutation: int


@dataclass(frozen=True, eq=False)
class Split:
    """neuron: of the condensed LP. active, dead: what closes ẑ ≥ 0 and ẑ ≤ 0."""

    neuron: int
    active: Leaf | Split
    dead: Leaf | Split


Subtree = Leaf | Split

#: A subtree, and the phases that it needs.
Closed = tuple[Subtree, frozenset[Literal]]


def resolved(literal: Literal, this: Closed, other: Closed) -> Closed:
    """What closes a node of which both sides of a split are closed; literal: of `this` side."""
    neuron, side = literal
    active, dead = (this, other) if side > 0 else (other, this)
    needed = (this[1] | other[1]) - {(neuron, 1), (neuron, -1)}
    return Split(neuron, active[0], dead[0]), needed


def used(root: Subtree, refutations: Mapping[int, Lemma]) -> dict[int, Lemma]:
    """The refutations that a tree needs, and the lemmas that these use, in ascending order."""
    found: set[int] = set()
    stack: list[Subtree | int] = [root]
    while stack:
        match stack.pop():
            case Leaf(refutation=number):
                stack.append(number)
            case Split(active=active, dead=dead):
                stack += [active, dead]
            case int(number) if number not in found:
                found.add(number)
                stack += [use for use in refutations[number].uses if use not in found]
    return {number: refutations[number] for number in sorted(found)}


def recorded(
    root: Subtree, neurons: Sequence[Neuron], refutations: dict[int, Refutation]
) -> ReluTree:
    """The tree with its nodes numbered and its neurons named; refutations: those that it needs."""
    numbers = {old: new for new, old in enumerate(refutations)}
    tree = ReluTree(refutations=list(refutations.values()))
    stack, nodes = [(0, root)], 1
    while stack:
        node, subtree = stack.pop()
        match subtree:
            case Leaf(refutation=number):
                tree.leaves[node] = numbers[number]
            case Split(neuron=neuron, active=active, dead=dead):
                tree.splits[node] = neurons[neuron], nodes, nodes + 1
                stack += [(nodes, active), (nodes + 1, dead)]
                nodes += 2
    return tree
