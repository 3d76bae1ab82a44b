"""What is in a TFLite file: as data (`describe`), and as tables to read (`show_description`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.errors import printable
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.linear import multiplications
from edgeqwt.graph.opset import RULES
from edgeqwt.output import first_name, show_table

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class TensorInfo:
    """One tensor.

    Attributes:
        name: as in the file.
        shape: -1 for dynamic dimensions.
        dtype: the element type's name in lower case.
        scale, zero_point: None where the tensor has none, or one per channel.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class WeightInfo:
    """The constant weights of a linear op.

    Attributes:
        dtype: how they are stored.
        bits: the fewest bits that hold their integers; None for floats.
        scales: how many; 0 for floats.
        smallest_scale, largest_scale: None without scales.
    """

    dtype: str
    bits: int | None
    scales: int
    smallest_scale: float | None
    largest_scale: float | None


@dataclass(frozen=True)
class OpInfo:
    """One op.

    Attributes:
        index: its position in the order of execution.
        kind: the builtin operator, or "CUSTOM name".
        version: operator version.
        output: its first output; None for ops without one.
        more_outputs: how many it has besides.
        activation: the fused activation, "NONE" where there is none.
        weights: None where it has no constant weights.
        constant_bytes: of its constant inputs, as stored.
        integer: whether none of its inputs and outputs is of a float type.
        macs: multiplications and additions of one run; 0 where the op is not linear.
    """

    index: int
    kind: str
    version: int
    output: TensorInfo | None
    more_outputs: int
    activation: str
    weights: WeightInfo | None
    constant_bytes: int
    integer: bool
    macs: int


@dataclass(frozen=True)
class SignatureInfo:
    """A signature: its key, and tensor names by the names that callers use."""

    key: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class SubgraphInfo:
    """A further subgraph: the body of control flow."""

    name: str
    ops: int


@dataclass(frozen=True)
class Description:
    """What is in a file.

    Attributes:
        size_bytes: of the file.
        description: the file's own.
        inputs, outputs: of the main subgraph.
        ops: of the main subgraph, in order.
        kinds: number of ops of each kind, most frequent first.
        constant_bytes: of all constants, shared ones once.
        integer_ops: ops that touch no float tensor.
        macs: multiplications and additions of one run of the linear ops.
        metadata: sizes in bytes by name.
        signatures: of the main subgraph.
        subgraphs: besides the main one.
        remarks: on what had to be repaired to read the file.
    """

    size_bytes: int
    description: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpInfo, ...]
    kinds: Mapping[str, int]
    constant_bytes: int
    integer_ops: int
    macs: int
    metadata: Mapping[str, int]
    signatures: tuple[SignatureInfo, ...]
    subgraphs: tuple[SubgraphInfo, ...]
    remarks: tuple[str, ...] = ()


def describe(graph: Graph, size_bytes: int) -> Description:
    """What is in a model.

    Args:
        graph: the model.
        size_bytes: of the file that it was read from.
    """
    ops = tuple(_op(graph, i) for i in range(len(graph.ops)))
    tensors = graph.tensors
    return Description(
        size_bytes=size_bytes,
        description=graph.description,
        inputs=tuple(_tensor(tensors[t]) for t in graph.inputs),
        outputs=tuple(_tensor(tensors[t]) for t in graph.outputs),
        ops=ops,
        kinds=dict(Counter(op.kind for op in ops).most_common()),
        constant_bytes=_constant_bytes(t for part in (graph, *graph.others) for t in part.tensors),
        integer_ops=sum(op.integer for op in ops),
        macs=sum(op.macs for op in ops),
        metadata={name: len(data) for name, data in graph.metadata.items()},
        signatures=tuple(
            SignatureInfo(
                s.key, {name: tensors[t].name for name, t in s.inputs}, {name: tensors[t].name for name, t in s.outputs}
            )
            for s in graph.signatures
        ),
        subgraphs=tuple(SubgraphInfo(part.name, len(part.ops)) for part in graph.others),
        remarks=graph.remarks,
    )


def _op(graph: Graph, index: int) -> OpInfo:
    op = graph.ops[index]
    inputs = [graph.tensors[t] for t in op.inputs if t >= 0]
    outputs = [graph.tensors[t] for t in op.outputs]
    return OpInfo(
        index=index,
        kind=f"CUSTOM {op.custom_code}" if op.kind == "CUSTOM" else op.kind,
        version=op.version,
        output=_tensor(outputs[0]) if outputs else None,
        more_outputs=max(len(outputs) - 1, 0),
        activation=op.activation,
        weights=_weights(graph, op),
        constant_bytes=_constant_bytes(inputs),
        integer=not any("float" in t.dtype or "complex" in t.dtype for t in (*inputs, *outputs)),
        macs=_macs(graph, op),
    )


def _tensor(t: Tensor) -> TensorInfo:
    q = t.quantization if t.quantization is not None and t.quantization.scale.size == 1 else None
    return TensorInfo(
        name=t.name,
        shape=t.shape_signature or t.shape,
        dtype=t.dtype,
        scale=None if q is None else float(q.scale[0]),
        zero_point=None if q is None else int(q.zero_point[0]),
    )


def _weights(graph: Graph, op: Op) -> WeightInfo | None:
    rule = RULES.get(op.kind)
    if rule is None or rule.weight is None or len(op.inputs) <= rule.weight:
        return None
    tensor = graph.tensors[op.inputs[rule.weight]]
    if tensor.data is None:
        return None
    bits = None
    if tensor.data.dtype.kind == "i":
        largest = max(int(tensor.data.max(initial=0)), -1 - int(tensor.data.min(initial=0)))
        bits = largest.bit_length() + 1
    scale = np.zeros(0) if tensor.quantization is None else tensor.quantization.scale
    return WeightInfo(
        dtype=tensor.dtype,
        bits=bits,
        scales=scale.size,
        smallest_scale=float(scale.min()) if scale.size else None,
        largest_scale=float(scale.max()) if scale.size else None,
    )


def _constant_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes as stored; tensors that share memory count once."""
    sizes = {}
    for t in tensors:
        if t.data is not None:
            size = (t.data.nbytes + 1) // 2 if t.dtype == "int4" else t.data.nbytes
            sizes[t.data.__array_interface__["data"][0], t.data.nbytes] = size
    return sum(sizes.values())


def _macs(graph: Graph, op: Op) -> int:
    if op.kind == "BATCH_MATMUL" and op.outputs:
        left = graph.tensors[op.inputs[0]].shape
        return graph.tensors[op.outputs[0]].size * left[-2 if op.options.get("adjX") else -1]
    return multiplications(graph, op)


# -- to read -------------------------------------------------------------------------------


def show_description(out: Console, d: Description) -> None:
    """Tables of what is in a file, and totals."""
    interface = (*(("input", t) for t in d.inputs), *(("output", t) for t in d.outputs))
    rows = [(first_name(t.name), end, _shape(t.shape), t.dtype, *_affine(t)) for end, t in interface]
    show_table(out, "Inputs and outputs", ("tensor", "", "shape", "type", "scale", "zero"), rows, texts=4)
    ops = [(_output_name(op), _op_cell(op), *_output_cells(op.output), _count(op.constant_bytes)) for op in d.ops]
    if ops:
        header = ("output", "op", "shape", "type", "scale", "zero", "constants")
        show_table(out, "Ops, with the bytes of their constants", header, ops, texts=4)
    weights = [(_op_cell(op), *_weights_cells(op.weights), _count(op.macs)) for op in d.ops if op.weights]
    if weights:
        header = ("op", "type", "bits", "scales", "smallest", "largest", "MACs")
        show_table(out, "Weights, with their scales", header, weights, texts=2)
    out.print()
    for line in _totals(d):
        out.print(line)


def _op_cell(op: OpInfo) -> str:
    return f"{op.index} {op.kind}"


def _totals(d: Description) -> list[str]:
    lines = ["no ops"]
    if d.ops:
        kinds = ", ".join(f"{count} {kind}" for kind, count in d.kinds.items())
        lines = [f"{len(d.ops)} ops, {d.integer_ops} of them on integers only: {kinds}"]
    if d.macs:
        lines.append(f"{d.macs:,} multiply-accumulates in a run")
    lines.append(f"{d.size_bytes:,} bytes, {d.constant_bytes:,} of them constants")
    for s in d.signatures:
        lines.append(f"signature {s.key!r}: takes {_list(s.inputs)}, gives {_list(s.outputs)}")
    lines += [f"subgraph {s.name!r}: {s.ops} ops" for s in d.subgraphs]
    lines += [f"metadata {name!r}: {size} bytes" for name, size in d.metadata.items()]
    lines += [printable(remark) for remark in d.remarks]
    return [*lines, f"description: {printable(d.description)}"] if d.description else lines


def _output_name(op: OpInfo) -> str:
    more = f" +{op.more_outputs}" if op.more_outputs else ""
    return "" if op.output is None else f"{first_name(op.output.name)}{more}"


def _output_cells(t: TensorInfo | None) -> tuple[str, str, str, str]:
    return ("", "", "", "") if t is None else (_shape(t.shape), t.dtype, *_affine(t))


def _weights_cells(w: WeightInfo | None) -> tuple[str, str, str, str, str]:
    if w is None:
        return "", "", "", "", ""
    bits = "" if w.bits is None else str(w.bits)
    if w.smallest_scale is None or w.largest_scale is None:
        return w.dtype, bits, "", "", ""
    return w.dtype, bits, str(w.scales), f"{w.smallest_scale:.4g}", f"{w.largest_scale:.4g}"


def _affine(t: TensorInfo) -> tuple[str, str]:
    return ("", "") if t.scale is None else (f"{t.scale:.4g}", str(t.zero_point))


def _list(names: Iterable[str]) -> str:
    return printable(", ".join(names)) or "nothing"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join("?" if n < 0 else str(n) for n in shape) or "scalar"
