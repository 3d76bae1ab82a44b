"""Constraints on which ops a model has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeqwt.errors import EdgeqwtError, UnsupportedError, short
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.lowering.preconditions import check_lowerable
from edgeqwt.profile import kernels_of
from edgeqwt.runtime import misread as convolutions
from edgeqwt.runtime import overwritten as memory
from edgeqwt.target.model import Model, Use
from edgeqwt.target.rule import ERROR, WARNING, Hit, Kinds, constraint
from edgeqwt.target.tables import CURVES, native


@constraint(ERROR)
def integer_form(model: Model, _: bool) -> Iterator[Hit]:
    """The op has no integer form.

    Remedy: Replace it in the source model, or cut the model there.
    """
    if model.graph.others:
        yield Hit(-1, f"the model has {len(model.graph.others) + 1} subgraphs (control flow)")
    if not model.is_float:
        return
    for i, op in enumerate(model.graph.ops):
        alone = replace(model.graph.alone(i)[0], others=())
        try:
            check_lowerable(alone, kernels_of(model.target))
        except UnsupportedError as error:
            yield Hit(i, error.rule, remedy=error.hint)
        except EdgeqwtError as error:
            yield Hit(i, f"{op.kind}: {error.message}", remedy=error.hint)


@constraint(ERROR)
def micro_ops(model: Model, _: bool) -> Iterator[Hit]:
    """TFLite Micro has no kernel for the op (docs/ops.md).

    Remedy: Replace the op in the source model.
    """
    for use in model.uses:
        if use.kind not in RULES:
            name = model.graph.ops[use.op].custom_code or use.kind
            known = "no measurement says whether it runs; register a kernel of your own if TFLite Micro has none."
            yield Hit(use.op, f"{name} is not in edgeqwt's op table", remedy=f"Try it: {known}", severity=WARNING)
        elif not _in_micro(use):
            yield Hit(use.op, use.text, fix=_stand_in(model, use))


@constraint(ERROR, list)
def micro_types(model: Model, limit: list[str]) -> Iterator[Hit]:
    """TFLite Micro has the op, but not for this type.

    Remedy: Cut the model before the op and compute the rest in the application.
    """
    for use, op in model.used():
        dtype = model.tensor(op.outputs[0]).dtype if use.kind == op.kind == "CAST" else use.dtype
        if f"{use.kind} {dtype}" in limit:
            yield Hit(use.op, f"{use.kind} {'to' if use.kind == 'CAST' else 'on'} {dtype}")


@constraint(WARNING, dict)
def delegated_ops(model: Model, limit: Kinds) -> Iterator[Hit]:
    """XNNPACK does not take the op: LiteRT's built-in kernel runs it, more slowly.

    Remedy: Leave it, unless `edgeqwt bench --on host` shows that it costs time.
    """
    for i, uses in beyond(model, limit):
        wide = any(use.dtype == "int16" for use in uses)
        slow = "Use 8-bit activations where speed matters (recipe int8-only): 16 bits are many times slower."
        fix = "pool-as-mean" if _whole_map(model, uses[0]) else ""
        yield Hit(i, described(uses), remedy=slow if wide else "", fix=fix)


@constraint(ERROR)
def overwritten(model: Model, _: bool) -> Iterator[Hit]:
    """LiteRT's built-in kernels write over a tensor that is still needed, as they plan their memory.

    Remedy: Copy the op's input first: QUANTIZE to the same scale.
    """
    for i, t in () if model.is_float else memory.overwritten(model.graph):
        yield Hit(i, f"{short(model.tensor(t).name)!r} is read later on", t, fix="copied-input")


@constraint(ERROR)
def misread(model: Model, _: bool) -> Iterator[Hit]:
    """XNNPACK gives the bias alone for a convolution with padding SAME whose kernels end before the image does.

    Remedy: Write it with padding VALID, or behind a SLICE that drops what no kernel reads. Builds do it.
    """
    for i in convolutions.misread(model.graph):
        w = model.tensor(slots(model.graph.ops[i]).weight).shape
        yield Hit(i, f"kernels of {w[1]}x{w[2]}, further apart than that", fix="same-written-out")


@constraint(WARNING, dict)
def npu_ops(model: Model, limit: Kinds) -> Iterator[Hit]:
    """The NPU does not run the op at this width: it falls to the CPU, and data goes back and forth.

    Remedy: Replace the op with one that the NPU has (docs/targets.md), or accept the CPU's time for it.
    """
    for i, uses in beyond(model, limit):
        lost = [use for use in uses if use.kind in RULES and not _in_micro(use)]
        if lost:
            remedy = "Replace it in the source model: neither the NPU nor the CPU has it."
            yield Hit(i, f"{described(lost)}, which TFLite Micro lacks as well", remedy=remedy, severity=ERROR)
        else:
            yield Hit(i, described(uses), fix="native-op" if _has_native(model, i, limit) else "")


@constraint(WARNING, dict)
def accelerated_ops(model: Model, limit: Kinds) -> Iterator[Hit]:
    """The accelerator does not run the op: it and all that follows run on the host's CPU.

    Remedy: Replace the op, or move it to the end of the model.
    """
    for i, uses in beyond(model, limit):
        yield Hit(i, described(uses))


@constraint(WARNING)
def npu_cast(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU does not cast from an 8-bit tensor that has no scale.

    Remedy: Leave it to the CPU, or give the integers to the application as they are.
    """
    for use, op in model.used("CAST"):
        x = model.tensor(op.inputs[0]) if op.kind == "CAST" and not model.is_float else None
        if x is not None and x.dtype == "int8" and x.quantization is None:
            yield Hit(use.op, f"{x.name!r} has none")


@constraint(ERROR, list)
def npu_aborts(model: Model, limit: list[str]) -> Iterator[Hit]:
    """Vela stops at the op, or crashes, instead of leaving it to the CPU.

    Remedy: Cut the model before the op and compute the rest in the application.
    """
    for use, op in model.used():
        dtypes = {use.dtype, *(model.tensor(t).dtype for t in op.tensors)}
        hit = next((name for name in limit if name in dtypes or name == f"{use.kind} {use.dtype}"), None)
        if hit is not None:
            yield Hit(use.op, f"{use.kind} works on {hit}" if hit in dtypes else use.text)


def _in_micro(use: Use) -> bool:
    rows = RULES16 if use.dtype == "int16" else RULES
    if use.kind in ("GATHER", "CAST", "TILE") and use.dtype == "int16" and use.kind not in RULES16:
        return False
    return use.kind in rows and rows[use.kind].tflm


def _stand_in(model: Model, use: Use) -> str:
    """The name of the fix that writes an op with others that TFLite Micro has."""
    if use.kind == "TILE":
        return "tile-as-concatenation"
    return "lookup-table" if RULES[use.kind].elementwise and use.dtype == "int8" and not model.is_float else ""


def beyond(model: Model, limit: Kinds) -> Iterator[tuple[int, list[Use]]]:
    """Every op, by its index, with those of the integer ops it is written with that are not in the lists."""
    found: dict[int, list[Use]] = {}
    for use in model.uses:
        if use.kind not in limit.get(use.dtype, ()):
            found.setdefault(use.op, []).append(use)
    yield from found.items()


def described(uses: list[Use]) -> str:
    """Integer ops as findings name them, such as "EXP on int8, DIV on int8"."""
    return ", ".join(use.text for use in uses)


def _has_native(model: Model, i: int, limit: Kinds) -> bool:
    """Whether the NPU has the op whose table op i is, or will be."""
    kinds = limit.get("int8", ())
    if model.is_float:
        op = model.graph.ops[i]
        return op.kind in {kind for kind, _, _ in CURVES} and op.kind in kinds and model.bits == 8
    return native(model.graph, model.graph.ops[i], kinds) is not None


def _whole_map(model: Model, use: Use) -> bool:
    op = model.graph.ops[use.op]
    return use.kind == "AVERAGE_POOL_2D" and not model.is_float and is_whole_map(model.graph, op)


def is_whole_map(graph: Graph, op: Op) -> bool:
    """Whether a pooling op averages each whole map into one value."""
    x, y = graph.tensors[op.inputs[0]].shape, graph.tensors[op.outputs[0]].shape
    size = (op.options.get("filterHeight"), op.options.get("filterWidth"))
    return size == x[1:3] and y[1:3] == (1, 1) and op.activation == "NONE" and op.options.get("padding") == "VALID"
