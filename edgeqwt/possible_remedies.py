"""What could help a model that comes out poor: options of the command line, and what they change."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape

from edgeqwt.calibration.columns import UNLIKE
from edgeqwt.ceiling import Ceiling
from edgeqwt.float_fronts import entrances, share
from edgeqwt.graph.graph import Graph
from edgeqwt.passes.context import Context
from edgeqwt.recipe.layers import KEEP_FLOAT, UPTO, integers_only, upto
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.resolution import back_to_logistic
from edgeqwt.verify.thresholds import FINE_DB, coarse_outputs

WIDE = "--precision w8a16"
BEFORE_ROOTS = ("POW", "MUL", "MEAN", "AVERAGE_POOL_2D", "MAXIMUM", "RESHAPE", "TRANSPOSE", "SQUEEZE")
"""What powers are computed by before a root of their means."""
LOST_COLUMN_DB = 10.0
"""What varies of an output's column over what the last op rounds: below this it is lost."""
MOST_COLUMNS = 64
UNITS = ("ADD", "SUB", "MUL")
"""What gives columns their units, with a constant."""


@dataclass(frozen=True, eq=False)
class Change:
    """What a remedy changes.

    Attributes:
        options: of the command line.
        split: whether parts become outputs.
        types: of outputs, by name in the source model; "" for all.
        wide: whether all activations have 16 bits.
        floats: names of tensors that stay float, with all that leads to them, and the inputs that do.
        ends: names of tensors whose op alone stays float.
        standardize: names of inputs whose columns are standardized.
        layers: names of tensors that have 16 bits, with the ops that compute them.
    """

    options: tuple[str, ...]
    split: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False
    floats: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    standardize: tuple[str, ...] = ()


def lost_logarithms(graph: Graph, own: OwnErrors, min_db: float) -> tuple[str, ...]:
    """The results of LOG at which a model errs most, or loses what varies: such values have no place in few bits.

    A logarithm makes small values count as much as large ones; steps of one size leave them nothing. They may be lost
    before it, in the spectrum that it reads.

    Args:
        graph: the float graph: the file has a table in place of most functions.
        own: errors of the file's ops.
        min_db: below this all is lost.
    """
    lost, names = own.collapsed(min_db), _poorest(own, min_db)
    found = [graph.tensors[t].name for op in graph.ops if op.kind == "LOG" for t in op.outputs]

    def reads_lost(name: str) -> bool:
        way = upto(graph, [name])
        return lost is not None and lost.reference in way and share(graph, way) < 1

    return tuple(name for name in found if name in names or reads_lost(name))


def lost_powers(graph: Graph, own: OwnErrors, min_db: float) -> tuple[str, ...]:
    """The results of POW at which a model errs most, or loses what varies, and those before them up to the layers.

    A root is steep where values are close to 0, and what is read there a power often: of generalized-mean pooling,
    a third root of means of cubes, neither has a place in few bits.

    Args:
        graph: the float graph: the file has a table in place of POW.
        own: errors of the file's ops.
        min_db: below this all is lost.
    """
    producers, names = graph.producers(), _poorest(own, min_db)

    def back(t: int, found: dict[str, None]) -> dict[str, None]:
        op, tensor = graph.ops[producers[t]] if t in producers else None, graph.tensors[t]
        if op is not None and op.kind in BEFORE_ROOTS and tensor.is_float and tensor.name not in found:
            found[tensor.name] = None
            for source in op.inputs:
                back(source, found)
        return found

    ways = [back(op.outputs[0], {}) for op in graph.ops if op.kind == "POW"]
    return tuple(dict.fromkeys(name for way in ways if names & way.keys() for name in way))


def _poorest(own: OwnErrors, min_db: float) -> set[str]:
    """The tensors at which a model errs most and loses what varies, by the float graph's names.

    That is where the first of it is lost, below so many dB, and wherever an op by itself leaves less than that: of
    several spectra side by side, each is.
    """
    lost = own.collapsed(min_db)
    alone = [op for op in own.ops if op.own_db is not None and op.own_db < min_db]
    return {op.reference for op in (*own.worst[:1], *alone, *([] if lost is None else [lost]))}


def few_layers(own: OwnErrors, limit: Ceiling | None) -> tuple[str, ...]:
    """The few tensors at which 16 bits promise to be enough, by their names in the float graph; none where none do."""
    promised = () if limit is None else next((w.tensors for w in limit.wider if w.db >= FINE_DB), ())
    names = {op.tensor: op.reference for op in own.ops if op.kind != "INPUT"}
    return tuple(names[name] for name in promised) if all(name in names for name in promised) else ()


def lost_columns(own: OwnErrors, quality: Quality) -> dict[str, tuple[int, ...]]:
    """Columns of outputs that the op before them rounds away, as others are larger by orders of magnitude.

    Of quantities in one tensor, each in its own unit, the largest alone decides what an SQNR of the whole is.

    Args:
        own: errors of the file's ops.
        quality: on held-out samples.

    Returns:
        By the tensor that decides; not of tensors with known parts, which are judged one by one.
    """
    paired = zip(own.ops, own.traces, strict=True) if own.traces else ()
    traces, found = {op.tensor: trace for op, trace in paired if trace is not None}, {}
    for output, judged in zip(quality.outputs, quality.decisive, strict=True):
        trace = traces.get(judged.tensor)
        if trace is None or output.parts or not 2 <= len(trace.used) <= MOST_COLUMNS:
            continue
        columns = enumerate(zip(trace.own_db, trace.used, strict=True))
        most = max(trace.used) / UNLIKE
        if lost := tuple(k for k, (db, used) in columns if db < LOST_COLUMN_DB and used < most):
            found[judged.tensor] = lost
    return found


def units(graph: Graph, name: str) -> tuple[str, ...]:
    """A tensor and those before it that constants alone turn into it: what gives columns their units, the last first.

    Where columns are lost in the steps of the last of them, they are in those before it.
    """
    producers, found = graph.producers(), [next(t for t, tensor in enumerate(graph.tensors) if tensor.name == name)]

    def gives_units(t: int) -> bool:
        return t in producers and graph.ops[producers[t]].kind in UNITS

    while gives_units(found[-1]):
        given = [u for u in graph.ops[producers[found[-1]]].inputs if not graph.tensors[u].is_constant]
        if len(given) > 1 or not gives_units(given[0]):
            break
        found.append(given[0])
    return tuple(graph.tensors[t].name for t in found)


def in_float(tensors: Iterable[str]) -> str:
    """The options that keep tensors float."""
    return " ".join(f"--layer {shlex.quote(f'{escape(tensor)}={KEEP_FLOAT}')}" for tensor in tensors)


def narrow(context: Context, recipe: Recipe) -> bool:
    """Whether activations have 8 bits where the target would take 16."""
    return recipe.precision.activation_bits == 8 and context.target.limits.get("activation_bits", 16) != 8


def of_columns(
    context: Context, recipe: Recipe, quality: Quality, own: OwnErrors, unlike: tuple[str, ...]
) -> Iterator[Change]:
    """What could help where quantities of their own units share an input's scale, or an output's."""
    lost, references = lost_columns(own, quality), {op.tensor: op.reference for op in own.ops}
    outputs = zip(quality.outputs, context.model.outputs, strict=True)
    ends = {references[o.tensor]: b.spec.name for o, b in outputs if o.tensor in lost}
    ends = {} if integers_only(context.target) else ends
    standard = tuple(f"--standardize {shlex.quote(name)}" for name in unlike)
    kept = tuple(name for tensor in ends for name in units(context.graph, tensor))
    floats: tuple[str, ...] = (in_float(kept),) if ends else ()
    floats += tuple(f"--output-type {shlex.quote(f'{name}=float')}" for name in ends.values())
    types = dict.fromkeys(ends.values(), "float")
    if ends:  # what is lost there, no figure of the whole output shows
        yield Change((*standard, *floats), standardize=unlike, ends=kept, types=types)
    elif standard:
        yield Change(standard, standardize=unlike)
    if standard and narrow(context, recipe):
        yield Change((*standard, WIDE), standardize=unlike, wide=True)


def changes(
    context: Context, recipe: Recipe, quality: Quality, own: OwnErrors, layers: tuple[str, ...]
) -> Iterator[Change]:
    """What could help, the cheapest first."""
    wider = narrow(context, recipe)
    logarithms = () if integers_only(context.target) else lost_logarithms(context.graph, own, recipe.quality.min_db)
    if logarithms:
        yield front(context, logarithms)
        if wider:
            yield front(context, logarithms, wide=True)
    powers = () if integers_only(context.target) else lost_powers(context.graph, own, recipe.quality.min_db)
    if powers:
        yield Change((in_float(powers),), ends=powers)
        if wider:
            yield Change((in_float(powers), WIDE), ends=powers, wide=True)
    names = {context.graph.tensors[t].name: b.spec.name for t, b in zip(
        context.graph.outputs, context.model.outputs, strict=True
    )}  # fmt: skip
    # What goes into the function may be poor as well: 16 bits at the output are those of the layer before it, too.
    picked = _picked(context.graph, quality)
    found = {*coarse_outputs(context.graph, quality, -math.inf), *picked}
    coarse = [name for tensor, name in names.items() if tensor in found and not _wide_port(recipe, tensor)]
    outputs = tuple(f"--output-type {shlex.quote(f'{name}=int16')}" for name in coarse)
    fine = dict.fromkeys(coarse, "int16")
    parts = any(part.closeness.judged_db < FINE_DB for output in quality.outputs for part in output.judged_parts)
    splits = parts and not recipe.interface.split and not context.model.deciding
    if coarse and wider:
        yield Change(outputs, types=fine)
    if splits:
        yield Change(("--split-outputs",), split=True)
    if splits and wider:
        yield Change(("--split-outputs", "--output-type int16"), split=True, types={"": "int16"})
    if layers and wider:
        named = tuple(f"--layer {shlex.quote(f'{escape(name)}=w8a16')}" for name in layers)
        yield Change((*named, *outputs), layers=layers, types=fine)
    if wider:
        yield Change((WIDE,), wide=True)
    if splits and wider:
        yield Change(("--split-outputs", WIDE), split=True, wide=True)
    if coarse and not integers_only(context.target):  # the function alone is float, as small as it is
        ends = [tensor for tensor, name in names.items() if name in coarse]
        floats = {t: None for tensor in ends for t in picked.get(tensor, (tensor,))}
        given = tuple(f"--output-type {shlex.quote(f'{name}=float')}" for name in coarse)
        kept, real = (in_float(floats), *given), dict.fromkeys(coarse, "float")
        yield Change(kept, ends=(*floats,), types=real)
        if wider:  # small probabilities lie below a step of 16 bits, and multiply what goes into the function
            yield Change((*kept, WIDE), ends=(*floats,), types=real, wide=True)


def _picked(graph: Graph, quality: Quality) -> dict[str, tuple[str, ...]]:
    """The outputs that are picked of probabilities and not fine, and all that is LOGISTIC's or picks of it."""
    found = {}
    for t, output in zip(graph.outputs, quality.outputs, strict=True):
        if output.closeness.judged_db < FINE_DB and len(way := back_to_logistic(graph, t)) > 1:
            found[graph.tensors[t].name] = tuple(graph.tensors[u].name for u in way)
    return found


def _wide_port(recipe: Recipe, tensor: str) -> bool:
    """Whether an output has finer steps than 8 bits already, as the user chose."""
    port = recipe.precision.ports.get(tensor)
    return port is not None and port.type in ("int16", "float")


def front(context: Context, names: Sequence[str], wide: bool = False) -> Change:
    """All that leads to some tensors in float, and 16 bits behind them where that is asked for.

    An input that leads elsewhere stays integer: a state's bytes are those of its output.
    """
    options = [f"--layer {shlex.quote(f'{UPTO}{escape(name)}={KEEP_FLOAT}')}" for name in names]
    graph, read = context.graph, entrances(context.graph, names)
    if len(read) == sum(graph.tensors[t].is_float for t in graph.inputs):
        options.append("--input float")
    else:
        options += [f"--input {shlex.quote(f'{context.model.inputs[k].spec.name}=float')}" for k in read]
    more = [WIDE] if wide else []
    return Change((*options, *more), floats=(*names,), wide=wide)
