"""Einsum of one tensor, and of three and more, which onnx2tf leaves as a custom op."""

from __future__ import annotations

import math

import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, attributes


def einsum(editing: Editing, node: onnx.NodeProto) -> bool:
    """Sums over axes, and products of two at a time; an Einsum of two stays, which onnx2tf knows.

    Not rewritten: without an arrow, with an ellipsis, or with a letter twice in one tensor.
    """
    before, arrow, out = attributes(node)["equation"].replace(" ", "").partition("->")
    terms, shapes = before.split(","), [editing.values.shapes.get(name, ()) for name in node.input]
    plain = arrow and "." not in before + out and len({*out}) == len(out)
    distinct = all(len({*term}) == len(term) == len(shape) for term, shape in zip(terms, shapes, strict=True))
    if not plain or not distinct or len(terms) == 2:
        return False
    x, term = node.input[0], terms[0]
    for k in range(1, len(terms)):
        kept = {*out}.union(*terms[k + 1 :])
        x, term = _product(editing, x, term, node.input[k], terms[k], kept)
    x, term = _summed(editing, x, term, {*out})
    editing.add("Transpose", [x], output=node.output[0], perm=[term.index(letter) for letter in out])
    return True


def _summed(editing: Editing, x: str, term: str, kept: set[str]) -> tuple[str, str]:
    """The sum over the letters that nobody needs, and the letters that are left."""
    axes = [axis for axis, letter in enumerate(term) if letter not in kept]
    if not axes:
        return x, term
    left = "".join(letter for letter in term if letter in kept)
    shape = tuple(n for n, letter in zip(editing.values.shapes[x], term, strict=True) if letter in kept)
    return editing.add("ReduceSum", [x, editing.integers(*axes)], shape, keepdims=0), left


def _product(editing: Editing, a: str, left: str, b: str, right: str, kept: set[str]) -> tuple[str, str]:
    """Of two tensors, summed over the letters that nobody needs, as one MatMul; and its letters."""
    a, left = _summed(editing, a, left, kept | {*right})
    b, right = _summed(editing, b, right, kept | {*left})
    size = dict(zip(left + right, editing.values.shapes[a] + editing.values.shapes[b], strict=True))
    both = [letter for letter in left if letter in right]
    batch, inner = "".join(c for c in both if c in kept), "".join(c for c in both if c not in kept)
    rows, columns = ("".join(c for c in term if c not in both) for term in (left, right))

    def matrices(x: str, term: str, order: tuple[str, str, str]) -> str:
        letters = "".join(order)
        turned = editing.add(
            "Transpose", [x], tuple(size[c] for c in letters), perm=[term.index(c) for c in letters]
        ) if letters != term else x  # fmt: skip
        first, second, third = (math.prod(size[c] for c in part) for part in order)
        return editing.reshaped(turned, (first, second, third))

    factors = [matrices(a, left, (batch, rows, inner)), matrices(b, right, (batch, inner, columns))]
    first, second, third = (math.prod(size[c] for c in part) for part in (batch, rows, columns))
    made = editing.add("MatMul", factors, (first, second, third))
    letters = batch + rows + columns
    return editing.reshaped(made, tuple(size[c] for c in letters)), letters
