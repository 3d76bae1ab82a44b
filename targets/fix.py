"""Remedies that can be applied to an integer graph: `edgeqwt check --fix`, and builds.

What preparation and lowering do anyway (DIV as a product, GELU as a table where the target lacks it, a whole map's
average as MEAN) is not done again here: these are for integer files of any origin, and for what only a target asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgeqwt.errors import short
from edgeqwt.graph.graph import Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.prepare.joins import tree
from edgeqwt.prepare.prepare import sentence
from edgeqwt.prepare.rewriting import Site, reshape
from edgeqwt.prepare.tidy import drop_dead
from edgeqwt.profile import TargetProfile
from edgeqwt.runtime.misread import rightly
from edgeqwt.runtime.overwritten import copied, overwritten
from edgeqwt.scales.weights import bias_quantization
from edgeqwt.target.check import check
from edgeqwt.target.model import is_float
from edgeqwt.target.plugin_rules import cut
from edgeqwt.target.shape_rules import reduced_block
from edgeqwt.target.tables import as_table, look_up, native

PIECES = 8  # inputs of one CONCATENATION; TFLite Micro takes ten

Rewrite = Callable[[Site, TargetProfile], Op | None]
"""As those of `prepare.rewriting`, for a target."""


@dataclass(frozen=True)
class Fix:
    """A rewrite.

    Attributes:
        sentence: what it did, before the names of the ops.
        bound: how far the results may be from what they were.
        rewrite: does it for one op.
        on_floats: whether it works on float graphs as well.
    """

    sentence: str
    bound: str
    rewrite: Rewrite
    on_floats: bool = False


def fix(graph: Graph, profile: TargetProfile) -> tuple[Graph, tuple[str, ...]]:
    """Applies every fix that a finding names.

    Args:
        graph: integer; of a float graph only what is exact is rewritten, the rest comes with lowering.
        profile: the target.

    Returns:
        The graph, and sentences that say what was done, and where.
    """
    done: dict[str, list[str]] = {}
    for name, fixing in FIXES.items():
        if is_float(graph) and not fixing.on_floats:
            continue
        wanted = {int(f.op.split()[1]) for f in check(graph, profile) if f.fix == name and f.op}
        graph, names = _applied(graph, wanted, fixing.rewrite, profile)
        if names:
            done[fixing.sentence] = names
    return graph, tuple(sentence(what, [*map(short, names)]) for what, names in done.items())


def _applied(graph: Graph, wanted: set[int], rewrite: Rewrite, profile: TargetProfile) -> tuple[Graph, list[str]]:
    editor, names = Editor(graph), []
    for i, op in enumerate(graph.ops):
        new = rewrite(Site(editor, graph, op), profile) if i in wanted else None
        if new is not None:
            names.append(graph.tensors[op.outputs[0]].name)
        editor.add_op(new or op)
    return (drop_dead(editor.finish())[0].pruned(), names) if names else (graph, [])


def _unpack_int4(at: Site, _: TargetProfile) -> Op | None:
    for t in at.op.inputs:
        if t >= 0 and at.tensor(t).dtype == "int4":
            at.editor.tensors[t] = replace(at.tensor(t), dtype="int8")
    return replace(at.op, version=_version(at, at.op.kind))


def _version(at: Site, kind: str) -> int:
    """Of an op of a kind, at the width of the old one."""
    return rule_at(kind, bits_of(at.graph, at.op)).version


def _lookup_table(at: Site, _: TargetProfile) -> Op | None:
    return as_table(at.editor, at.graph, at.op)


def _native_op(at: Site, profile: TargetProfile) -> Op | None:
    kinds = profile.limits.get("npu_ops", {})
    return native(at.graph, at.op, kinds.get("int8", ())) if isinstance(kinds, Mapping) else None


def _pool_as_mean(at: Site, _: TargetProfile) -> Op | None:
    mean = at.end("MEAN", (at.op.inputs[0], at.integers("axes", [1, 2])), keepDims=True)
    return replace(mean, version=_version(at, "MEAN"))


def _copied_input(at: Site, _: TargetProfile) -> Op | None:
    graph = at.graph
    written = (copied(at.editor, graph, i, t) for i, t in overwritten(graph) if graph.ops[i] is at.op)
    return next((op for op in written if op is not None), None)


def _same_written_out(at: Site, _: TargetProfile) -> Op | None:
    return rightly(at.editor, at.graph, at.op)


def _mean_reshaped(at: Site, _: TargetProfile) -> Op | None:
    block, x = reduced_block(at.graph, at.op), at.op.inputs[0]
    if block is None:
        return None
    outer, reduced, inner = block
    rows = _like(at, x, "rows", (1, outer, reduced, inner))
    mean = _like(at, at.op.outputs[0], "mean", (1, outer, 1, inner))
    axis = at.integers("axis", [2])
    reshape(at.editor, x, rows, f"{at.out.name}/shape")
    at.editor.add_op(replace(at.op.with_options(keepDims=True), inputs=(rows, axis), outputs=(mean,)))
    return at.end_reshape(mean)


def _like(at: Site, t: int, suffix: str, shape: tuple[int, ...]) -> int:
    """Adds an activation with the type and the scale of a tensor."""
    name = f"{at.out.name}/{suffix}" if suffix else at.out.name
    return at.editor.add_tensor(replace(at.tensor(t), name=name, shape=shape, data=None, shape_signature=None))


def _tile_as_concatenation(at: Site, _: TargetProfile) -> Op | None:
    t, multiples = at.op.inputs[0], at.value(at.op.inputs[1])
    if multiples is None:
        return None
    shape = list(at.shape(t))
    steps = [(axis, pieces) for axis, m in enumerate(multiples.reshape(-1)) for pieces in _factors(int(m))]
    *inner, last = steps or [(0, 1)]
    for axis, pieces in inner:
        shape[axis] *= pieces
        target = _like(at, at.op.outputs[0], "", tuple(shape))
        joining = at.end("CONCATENATION", (t,) * pieces, axis=axis)
        at.editor.add_op(replace(joining, outputs=(target,), version=2))
        t = target
    return replace(at.end("CONCATENATION", (t,) * last[1], axis=last[0]), version=2)


def _factors(count: int) -> list[int]:
    """Numbers of at most PIECES whose product is count; a prime beyond that stays as it is."""
    found: list[int] = []
    while count > PIECES:
        factor = next((f for f in range(PIECES, 1, -1) if count % f == 0), count)
        found.append(factor)
        count //= factor
    return [*found, count] if count > 1 else found


def _joined_in_tree(at: Site, profile: TargetProfile) -> Op | None:
    most = profile.limits["joined_inputs"]
    assert isinstance(most, int)
    return tree(at.editor, at.graph, at.op, most)


def _slice_sizes(at: Site, _: TargetProfile) -> Op | None:
    begin, sizes = (at.value(t) for t in at.op.inputs[1:3])
    if begin is None or sizes is None:
        return None
    rest = np.array(at.shape(at.op.inputs[0])) - begin
    written = np.where(sizes < 0, rest, sizes).astype(sizes.dtype)
    return replace(at.op, inputs=(*at.op.inputs[:2], at.constant("sizes", written)))


def _per_tensor(at: Site, _: TargetProfile) -> Op | None:
    """Every channel at the largest channel's scale; the bias, and with it a correction's offset, at the new one."""
    s = slots(at.op)
    weight, x = at.tensor(s.weight), at.tensor(s.data).quantization
    if weight.data is None or weight.quantization is None or x is None:
        return None
    old = weight.quantization.scale.astype(np.float64)
    largest = np.float32(old.max())
    shape = [-1] + [1] * (weight.data.ndim - 1)
    data = np.rint(weight.data * (old / float(largest)).reshape(shape)).astype(np.int8)
    q = Quantization(np.array([largest]), np.zeros(1, np.int64))
    inputs = list(at.op.inputs)
    inputs[1] = at.editor.add_tensor(replace(weight, data=data, quantization=q, extra={}))
    bias = at.tensor(s.bias) if s.bias >= 0 else None
    if bias is not None and bias.data is not None:
        step = bias_quantization(x.scale[0], np.array([largest], np.float32)).scale
        before = bias_quantization(x.scale[0], weight.quantization.scale).scale.astype(np.float64)
        integers = np.rint(bias.data * (before / float(step[0]))).astype(bias.data.dtype)
        bq = Quantization(step, np.zeros(1, np.int64))
        inputs[2] = at.editor.add_tensor(replace(bias, data=integers, quantization=bq, extra={}))
    return replace(at.op, inputs=tuple(inputs))


def _cast_as_table(at: Site, _: TargetProfile) -> Op | None:
    integers = np.arange(-128, 128).astype(np.int16)
    table = at.editor.add_tensor(Tensor(f"{at.out.name}/table", (256,), "int16", integers, at.out.quantization))
    return look_up(at.editor, at.op.inputs[0], table, at.op.outputs, at.out.name, 4)


def _sub_of_zero(at: Site, _: TargetProfile) -> Op | None:
    op, rule = at.op, rule_at("SUB", bits_of(at.graph, at.op))
    x, zero = sorted(op.inputs, key=lambda t: at.tensor(t).is_constant)
    extra = {**op.extra, "optionsType": "SubOptions"} if "optionsType" in op.extra else op.extra
    return Op("SUB", (x, zero), op.outputs, {**op.options, **rule.options}, rule.version, extra=extra)


def _transpose_conv_cut(at: Site, _: TargetProfile) -> Op | None:
    found, op, y = cut(at.graph, at.op), at.op, at.out
    if found is None:
        return None
    (height, width), (top, left) = found
    shape = (y.shape[0], height, width, y.shape[3])
    whole = _like(at, op.outputs[0], "whole", shape)
    numbers = {"size": shape, "begin": (0, top, left, 0), "kept": y.shape}
    size, begin, kept = (at.integers(what, values) for what, values in numbers.items())
    at.editor.add_op(replace(op.with_options(padding="VALID"), inputs=(size, *op.inputs[1:]), outputs=(whole,)))
    return replace(at.end("SLICE", (whole, begin, kept)), version=_version(at, "SLICE"))


EXACT = "exact"
FIXES: Mapping[str, Fix] = MappingProxyType(
    {
        "unpack-int4": Fix("Weights stored as int4 are stored as int8", EXACT, _unpack_int4),
        "tile-as-concatenation": Fix("TILE became CONCATENATION", EXACT, _tile_as_concatenation, on_floats=True),
        "joined-in-tree": Fix("CONCATENATION became a tree of them", EXACT, _joined_in_tree),
        "slice-sizes": Fix("SLICE got its sizes written out", EXACT, _slice_sizes, on_floats=True),
        "lookup-table": Fix("Became a table of its 256 values (CAST, ADD, GATHER)", "one step", _lookup_table),
        "native-op": Fix("A table became the op whose values it holds", "one step", _native_op),
        "pool-as-mean": Fix("AVERAGE_POOL_2D over whole maps became MEAN", "one step", _pool_as_mean),
        "cast-as-table": Fix("CAST from int8 to int16 became a table of 256 values", EXACT, _cast_as_table),
        "transpose-conv-cut": Fix("TRANSPOSE_CONV is cut to its size by a SLICE", EXACT, _transpose_conv_cut),
        "sub-of-zero": Fix("ADD of zero became SUB of zero", EXACT, _sub_of_zero),
        "copied-input": Fix("The input was copied before LiteRT overwrites it", EXACT, _copied_input),
        "same-written-out": Fix("Padding SAME that XNNPACK computes wrongly was written out", EXACT, _same_written_out),
        "mean-reshaped": Fix("MEAN works on a reshaped copy with batch 1", EXACT, _mean_reshaped),
        "per-tensor": Fix(
            "FULLY_CONNECTED's weights have one scale",
            "half a step of the largest channel's scale per weight; biases keep the correction's offsets",
            _per_tensor,
        ),
    }
)
"""Every fix by its name, in the order in which they are applied."""
