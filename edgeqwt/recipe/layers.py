"""What some layers have of their own: widths, a range rule, or that they stay float."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatch
from glob import escape
from typing import Any, cast

from edgeqwt import options
from edgeqwt.errors import RecipeError, TargetError
from edgeqwt.graph.graph import Graph
from edgeqwt.passes.technique import RANGES, Technique
from edgeqwt.profile import TargetProfile
from edgeqwt.scales.ranges import RangeRule
from edgeqwt.techniques import registry
from edgeqwt.widths.precision import Precision, Widths, parse

KEEP_FLOAT = "keep_float"
UPTO = "upto:"
"""Before a pattern: the ops that it names, and all from which they compute."""
HINT = 'Give precision = "w8a16", ranges = "minmax" or keep_float = true.'


@dataclass(frozen=True)
class LayerSettings:
    """What the layers that a pattern names have of their own; of two patterns the later one counts.

    Attributes:
        match: a pattern such as "head.*" for the names of ops' outputs in the file, or of their modules in the source;
            "upto:head.*" names all ops that lead there, too.
        precision: their widths, such as "w8a16".
        ranges: the range rule of what they compute: a name such as "minmax", or a table of a name and options.
        keep_float: whether they stay float32, weights included, between DEQUANTIZE and QUANTIZE.
    """

    match: str
    precision: str = ""
    ranges: str | dict[str, Any] = ""
    keep_float: bool = False

    @property
    def rule(self) -> RangeRule | None:
        """The range rule; None where the recipe's does.

        Raises:
            RecipeError: there is no such rule, or an option of it is wrong.
        """
        return cast(RangeRule, range_rule(self.ranges, f"layers {self.match!r}: ranges")) if self.ranges else None


@dataclass(frozen=True)
class Resolved:
    """What patterns say, by the tensors of one graph.

    Attributes:
        precision: widths of all ops, and which of them stay float.
        ranges: range rules by the names of tensors.
    """

    precision: Precision
    ranges: Mapping[str, RangeRule] = field(default_factory=dict)


def settings(match: str, value: object, where: str) -> LayerSettings:
    """The settings of one pattern.

    Args:
        match: the pattern.
        value: widths such as "w8a16", "keep_float", or a table of `LayerSettings` without `match`.
        where: names it in messages.

    Raises:
        RecipeError: a key, value or combination that makes no sense.
    """
    if isinstance(value, str):
        value = {KEEP_FLOAT: True} if value == KEEP_FLOAT else {"precision": value}
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: {match!r} = {value!r}", HINT)
    return checked(options.filled(LayerSettings, {"match": match, **value}, where), where)


def layer_tables(entries: object, where: str) -> Iterator[LayerSettings]:
    """The tables [[layers]] of a recipe's file.

    Raises:
        RecipeError: as `settings`.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RecipeError(f"{where}: layers = {entries!r}", f"Write each as a table [[layers]] with match. {HINT}")
    for entry in entries:
        yield checked(options.filled(LayerSettings, entry, f"{where} [[layers]]"), f"{where} [[layers]]")


def checked(layer: LayerSettings, where: str) -> LayerSettings:
    """The settings, if they say something that can be done.

    Raises:
        RecipeError: they do not.
    """
    options.check(layer, where)
    if not (layer.precision or layer.ranges or layer.keep_float):
        raise RecipeError(f"{where}: {layer.match!r} sets nothing", HINT)
    if layer.precision and layer.keep_float:
        raise RecipeError(f"{where}: {layer.match!r} has both widths and keep_float", "Leave one of them out.")
    if layer.precision:
        parse(layer.precision)
    _ = layer.rule
    return layer


def range_rule(value: str | Mapping[str, Any], where: str = "ranges") -> Technique:
    """A range rule by name, such as "mse" or "mse_ranges", or from a table of a name and options.

    Raises:
        RecipeError: there is no such rule, or an option of it is unknown, of another type or out of bounds.
    """
    table: Mapping[str, Any] = {"name": value} if isinstance(value, str) else value
    rules = registry.of_role(RANGES)
    name = table.get("name")
    known = next((rule for rule in rules if name in (rule, rule.removesuffix("_ranges"))), None)
    if known is None:
        names = ", ".join(rule.removesuffix("_ranges") for rule in rules)
        raise RecipeError(f"there is no range rule {name!r}", f"Choose {names}.")
    return registry.technique(known, {key: v for key, v in table.items() if key != "name"}, where)


def resolved(
    precision: Precision,
    layers: Sequence[LayerSettings],
    names: Mapping[str, str],
    target: TargetProfile,
    graph: Graph | None = None,
) -> Resolved:
    """What patterns say of the ops of a graph.

    Args:
        precision: widths of all other ops.
        layers: patterns, and what the layers that they name have.
        names: of the tensors that ops compute, and what these are in the source model; empty where nobody knows.
        target: what is to run the result.
        graph: float, whose tensors these are, for what leads to an op; None where nobody asks for that.

    Raises:
        RecipeError: a pattern names no op, or all of them are to stay float.
        TargetError: ops are to stay float, and the target takes none.
    """
    widths, floats = dict(precision.layers), set(precision.floats)
    rules, packs = dict[str, RangeRule](), precision.pack_int4
    for layer in layers:
        named = _named(layer.match.removeprefix(UPTO), names)
        if layer.match.startswith(UPTO) and graph is not None:
            leading = upto(graph, named)
            named = [name for name in names if name in leading]
        if layer.keep_float and integers_only(target):
            raise TargetError(
                f"target {target.name} takes no ops on floats: {named[0]!r} is to stay float by layers {layer.match!r}",
                "Leave keep_float out, give these layers 16 bits (w8a16), or choose another target.",
            )
        if layer.precision:
            found = parse(layer.precision)
            if found.dynamic != precision.dynamic:
                raise RecipeError(
                    f"layers: {layer.match!r} has {layer.precision}, and the model {precision.name}: activations are "
                    "quantized at run time everywhere, or nowhere",
                    "Give the layer widths of the same kind, or keep_float = true.",
                )
            widths |= dict.fromkeys(named, Widths(found.weight_bits, found.activation_bits))
            packs |= found.pack_int4
            floats -= {*named}
        elif layer.keep_float:
            floats |= {*named}
        if floats >= names.keys():
            raise RecipeError(f"layers: with {layer.match!r} every op stays float", "Nothing is left to quantize.")
        rule = layer.rule
        rules |= dict.fromkeys(named, rule) if rule is not None else {}
    return Resolved(replace(precision, layers=widths, floats=frozenset(floats), pack_int4=packs), rules)


def upto(graph: Graph, names: Sequence[str]) -> frozenset[str]:
    """The names of these tensors and of all others from which ops compute them, the graph's inputs excepted."""
    producers = graph.producers()
    todo = [t for t, tensor in enumerate(graph.tensors) if tensor.name in {*names} and t in producers]
    seen = {*todo}
    while todo:
        before = [t for t in graph.ops[producers[todo.pop()]].inputs if t in producers and t not in seen]
        seen.update(before)
        todo += before
    return frozenset(graph.tensors[t].name for t in seen)


def integers_only(target: TargetProfile) -> bool:
    """Whether a target is made for integers, and has no runtime of its own for what is left over (TFLite Micro has)."""
    return "float_tensors" in target.limits and "tflm" not in target.runtimes


def pattern_of(name: str, names: Mapping[str, str]) -> str:
    """A short pattern that names one op and no other.

    Its module in the source, the last of the names that a converter joined by semicolons, or the whole name.

    Args:
        name: of the op's output.
        names: as for `resolved`; empty where nobody knows.
    """
    last = name.rpartition(";")[2]
    for pattern in (escape(names.get(name, "")), f"*;{escape(last)}"):
        if _matching(pattern, names) == [name]:
            return pattern
    return escape(name)


def _matching(match: str, names: Mapping[str, str]) -> list[str]:
    return [name for name, source in names.items() if fnmatch(name, match) or (source and fnmatch(source, match))]


def _named(match: str, names: Mapping[str, str]) -> list[str]:
    found = _matching(match, names)
    if not found:
        close = get_close_matches(match, dict.fromkeys([*names, *filter(None, names.values())]), 3, 0.0)
        raise RecipeError(f"layers: {match!r} names no op", f"Such as {', '.join(map(repr, close))} are there.")
    return found
