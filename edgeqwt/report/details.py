"""What `report.html` shows beyond `report.json`: each op's values on its grid, its channels, memory, samples, origin.

It lies beside the report as `details.json`, in the same terms; numbers that are not finite are null.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, TypedDict

from edgeqwt.compensation.cwac import Outcome
from edgeqwt.graph.arena_plan import plan_arena
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.output import finite
from edgeqwt.report.shared_scales import range_reasons
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.traces import BESIDE, BINS, Trace
from edgeqwt.verify.worst_samples import WorstSample

SCHEMA: Final = "edgeqwt.details"
VERSION: Final = 1
MOST_HASHED = 1 << 30  # bytes of a file of the user's whose hash is worth its time


class Errors(TypedDict):
    """What one op errs in one variant.

    Attributes:
        own_db, accumulated_db: as in report.json's `own_errors`, two digits; 999 where there is no error, -999 where
            nothing is left, null where nothing varies.
        bias, clipping, rounding: shares of the own error.
        moves: whether it only moves values.
    """

    own_db: float | None
    accumulated_db: float | None
    bias: float
    clipping: float
    rounding: float
    moves: bool


class Values(TypedDict):
    """The float model's values on the grid of the tensor's integers.

    Attributes:
        low, high: extremes.
        beyond: share of values that the integers do not reach.
        counts: of values in bins of equal width, `bins_beside` of them below the range of the integers and as many
            above; empty for tensors without a grid.
        bins, bins_beside: how many bins there are, and how many of them lie on either side.
    """

    low: float
    high: float
    beyond: float
    counts: list[int]
    bins_beside: int
    bins: int


class Channels(TypedDict, total=False):
    """Lists with an entry per channel; lists that say nothing are left out.

    Attributes:
        own_db: by variant, what varies in each channel over the op's own error, in dB, within -99 and 99; null where it
            is constant.
        used: how many of the output's steps a channel's values in the float model, and zero, take up.
        gain, offset: what compensation folded in; offsets in real values.
    """

    own_db: dict[str, list[float | None]]
    used: list[float]
    gain: list[float]
    offset: list[float]


class OpRow(TypedDict):
    """One op of model.tflite, or an input that is rounded.

    Attributes:
        op: its index; null for an input.
        kind: the TFLite op; INPUT for an input.
        tensor: its output in the file.
        measured: the name under which it was measured; empty for float tensors at the borders.
        location: where the source model computes it; empty where nobody knows.
        shape, dtype: of that output.
        scale, zero_point: of that output; null where it is not quantized, or per channel.
        errors: by variant.
        values: null where nothing was traced.
        range_reason: why they use little of the integers' range, where the graph says so; empty otherwise.
        channels: its channels.
        skipped: what compensation left alone: how many channels, and why.
    """

    op: int | None
    kind: str
    tensor: str
    measured: str
    location: str
    shape: list[int]
    dtype: str
    scale: float | None
    zero_point: int | None
    errors: dict[str, Errors]
    values: Values | None
    range_reason: str
    channels: Channels
    skipped: list[tuple[int, str]]


class Memory(TypedDict):
    """The plan of the activations' memory.

    Attributes:
        bytes: of the arena.
        ops: of the graph.
        slots: the tensors, largest first: name, offset and size in bytes, first and last op that needs it.
    """

    bytes: int
    ops: int
    slots: list[tuple[str, int, int, int, int]]


class SampleRow(TypedDict):
    """One of the held-out samples on which the model errs most.

    Attributes:
        number: its place among the held-out samples, from 0.
        share: of all held-out samples' squared error, output by output, the largest.
        wanted, found: the largest element of the first output, in the float model and in the integer one; null where
            that output has no rows, or several.
        png: the input, where it may be an image: a PNG in base64; empty otherwise.
    """

    number: int
    share: float
    wanted: int | None
    found: int | None
    png: str


class Details(TypedDict):
    """What `edgeqwt build` writes to details.json: what its page draws and report.json does not have.

    Attributes:
        schema: tells this file from any other.
        version: of this schema. It rises when a field goes or changes its meaning.
        series: the variants that `ops` has errors of; the last one is looked at first.
        memory: null where it was not planned.
        origin: what the file was made of, with hashes, as pairs of a label and a text.
        samples: the worst first.
        ops: inputs first, in the order of the ops.
    """

    schema: Literal["edgeqwt.details"]
    version: Literal[1]
    series: list[str]
    memory: Memory | None
    origin: list[tuple[str, str]]
    samples: list[SampleRow]
    ops: list[OpRow]


def op_rows(
    graph: Graph, traced: Mapping[str, OwnErrors], outcome: Outcome | None, locations: Mapping[str, str]
) -> list[OpRow]:
    """One row per input and op of a graph, in order.

    Args:
        graph: the file's.
        traced: own errors by variant, the last one the one to look at first; ops are the graph's.
        outcome: what compensation did.
        locations: where in the source an op comes from, by tensor name.
    """
    errors = {name: {e.tensor: k for k, e in enumerate(own.ops)} for name, own in traced.items()}
    inside = _behind_borders(graph)
    places: list[tuple[int | None, int]] = [(None, t) for t in graph.inputs]
    places += [(i, op.outputs[0]) for i, op in enumerate(graph.ops) if op.outputs]
    rows: list[OpRow] = []
    for op, t in places:
        tensor, measured = graph.tensors[t], inside.get(t, graph.tensors[t].name)
        found = {name: (traced[name], k) for name, e in errors.items() if (k := e.get(measured)) is not None}
        q = tensor.quantization
        traces = {name: own.traces[k] for name, (own, k) in found.items() if own.traces}
        rows.append(
            {
                "op": op,
                "kind": "INPUT" if op is None else graph.ops[op].kind,
                "tensor": tensor.name,
                "measured": measured,
                "location": locations.get(measured, ""),
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "scale": None if q is None or q.axis is not None else float(q.scale[0]),
                "zero_point": None if q is None or q.axis is not None else int(q.zero_point[0]),
                "errors": {name: _error(own.ops[k]) for name, (own, k) in found.items()},
                "values": _values(traces.values()),
                "range_reason": "",
                "channels": _channels(measured, traces, outcome),
                "skipped": [(s.channels, s.reason) for s in outcome.skips if s.name == measured] if outcome else [],
            }
        )
    spans = {t: (v["low"], v["high"]) for (_, t), row in zip(places, rows, strict=True) if (v := row["values"])}
    reasons = range_reasons(graph, spans)
    for (_, t), row in zip(places, rows, strict=True):
        row["range_reason"] = reasons.get(t, "")
    return rows


def _behind_borders(graph: Graph) -> dict[int, str]:
    """By tensor the name under which it was measured, before float inputs and outputs were put around the graph.

    Behind a QUANTIZE of an input and before a DEQUANTIZE to an output lies what the graph had in its place; the float
    tensor itself has no error then, and gets an empty name.
    """
    found: dict[int, str] = {}
    for op in graph.ops:
        given, made = op.inputs[0] if op.inputs else -1, op.outputs[0] if op.outputs else -1
        if op.kind == "QUANTIZE" and given in graph.inputs and graph.tensors[given].is_float:
            found |= {made: graph.tensors[given].name, given: ""}
        if op.kind == "DEQUANTIZE" and made in graph.outputs:
            found |= {given: graph.tensors[made].name, made: ""}
    return found


def bare_row(error: OpError, series: str) -> OpRow:
    """The row of an op whose graph is not at hand."""
    return {
        "op": error.op, "kind": error.kind, "tensor": error.tensor, "measured": error.tensor, "location": "",
        "shape": [], "dtype": "", "scale": None, "zero_point": None, "errors": {series: _error(error)},
        "values": None, "range_reason": "", "channels": {}, "skipped": [],
    }  # fmt: skip


def _error(e: OpError) -> Errors:
    return {
        "own_db": _capped(e.own_db),
        "accumulated_db": _capped(e.accumulated_db),
        "bias": _share(e.bias),
        "clipping": _share(e.clipping),
        "rounding": _share(e.rounding),
        "moves": e.moves,
    }


def _share(value: float) -> float:
    """Four digits; nothing where the error is no number, and nobody knows what it is made of."""
    return round(value, 4) if math.isfinite(value) else 0.0


def _capped(db: float | None) -> float | None:
    """Two digits; no error at all counts as 999 dB and nothing left as -999, so that both are still numbers."""
    return None if db is None or math.isnan(db) else round(max(-999.0, min(999.0, db)), 2)


def _values(traces: Iterable[Trace | None]) -> Values | None:
    """The reference's values, the same for every variant; None where some are no numbers, too."""
    trace = next((trace for trace in traces if trace is not None), None)
    if trace is None or not all(map(math.isfinite, (trace.low, trace.high, trace.beyond))):
        return None
    return {
        "low": _digits(trace.low),
        "high": _digits(trace.high),
        "beyond": _digits(trace.beyond),
        "counts": list(trace.counts),
        "bins_beside": BESIDE,
        "bins": BINS,
    }


def _channels(name: str, traces: Mapping[str, Trace | None], outcome: Outcome | None) -> Channels:
    known = {series: [_tenths(db) for db in trace.own_db] for series, trace in traces.items() if trace and trace.own_db}
    found: Channels = {"own_db": known} if known else {}
    trace = next((trace for trace in traces.values() if trace is not None), None)
    if trace is not None and trace.used:
        found["used"] = [round(steps, 1) if math.isfinite(steps) else 0.0 for steps in trace.used]
    change = next((c for c in outcome.changes if c.name == name), None) if outcome else None
    if change is not None and any(gain != 1 for gain in change.gains):
        found["gain"] = [_digits(gain) for gain in change.gains]
    if change is not None and any(change.offsets):
        found["offset"] = [_digits(offset) for offset in change.offsets]
    return found


def _tenths(db: float) -> float | None:
    return None if math.isnan(db) else round(max(-99.0, min(99.0, db)), 1)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def memory_map(graph: Graph) -> Memory:
    """The plan of a graph's activations, largest first."""
    plan = plan_arena(graph)
    slots = sorted(plan.slots, key=lambda slot: -slot.bytes)
    rows = [(graph.tensors[s.tensor].name, s.offset, s.bytes, s.first, s.last) for s in slots]
    return {"bytes": plan.bytes, "ops": len(graph.ops), "slots": rows}


def sample_rows(samples: Iterable[WorstSample]) -> list[SampleRow]:
    """The worst samples, pictures as PNG."""
    return [
        {
            "number": s.number,
            "share": _digits(s.share),
            "wanted": s.wanted,
            "found": s.found,
            "png": "" if s.image is None else _png(s.image),
        }
        for s in samples
    ]


def _png(image: Array) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, "png")
    return base64.b64encode(data.getvalue()).decode("ascii")


def hashes(named: Iterable[str | None]) -> dict[str, str]:
    """SHA-256 of those of the user's files that are files, by the name that the user gave; "a.py:create" is a.py."""
    found = {}
    for name in named:
        path = Path((name or "").rpartition(":")[0] if name and not Path(name).exists() else name or "")
        try:
            if name and path.is_file() and path.stat().st_size <= MOST_HASHED:
                with path.open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue
    return found


def written(details: Details) -> str:
    """Details as the text of their file: a line for each op and sample."""
    body = finite(details)
    lines = []
    for key, value in body.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]" if rows else f"{json.dumps(key)}: []")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
