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
from typing import Any

from edgeqwt.compensation.cwac import Outcome
from edgeqwt.graph.arena_plan import plan_arena
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.output import finite
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.traces import BESIDE, BINS, Trace
from edgeqwt.verify.worst_samples import WorstSample

SCHEMA, VERSION = "edgeqwt.details", 1
MOST_HASHED = 1 << 30  # bytes of a file of the user's whose hash is worth its time


def op_rows(
    graph: Graph, traced: Mapping[str, OwnErrors], outcome: Outcome | None, locations: Mapping[str, str]
) -> list[dict[str, Any]]:
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
    rows = []
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
                **_values(traces.values()),
                "channels": _channels(
                    measured, {n: own.traces[k] for n, (own, k) in found.items() if own.traces}, outcome
                ),
                "skipped": [[s.channels, s.reason] for s in outcome.skips if s.name == measured] if outcome else [],
            }
        )
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


def bare_row(error: OpError, series: str) -> dict[str, Any]:
    """The row of an op whose graph is not at hand."""
    return {
        "op": error.op, "kind": error.kind, "tensor": error.tensor, "measured": error.tensor, "location": "",
        "shape": [], "dtype": "", "scale": None, "zero_point": None, "errors": {series: _error(error)},
        "values": None, "channels": {},
        "skipped": [],
    }  # fmt: skip


def _error(e: OpError) -> dict[str, Any]:
    return {
        "own_db": _capped(e.own_db),
        "accumulated_db": _capped(e.accumulated_db),
        "bias": round(e.bias, 4),
        "clipping": round(e.clipping, 4),
        "rounding": round(e.rounding, 4),
        "moves": e.moves,
    }


def _capped(db: float | None) -> float | None:
    """Two digits; no error at all counts as 999 dB and nothing left as -999, so that both are still numbers."""
    return None if db is None or math.isnan(db) else round(max(-999.0, min(999.0, db)), 2)


def _values(traces: Iterable[Trace | None]) -> dict[str, Any]:
    """The reference's values; the same for every variant."""
    trace = next((trace for trace in traces if trace is not None), None)
    if trace is None:
        return {"values": None}
    return {
        "values": {
            "low": _digits(trace.low),
            "high": _digits(trace.high),
            "beyond": _digits(trace.beyond),
            "counts": list(trace.counts),
            "bins_beside": BESIDE,
            "bins": BINS,
        }
    }


def _channels(name: str, traces: Mapping[str, Trace | None], outcome: Outcome | None) -> dict[str, Any]:
    """Lists with an entry per channel; lists that say nothing are left out."""
    known = {series: [_tenths(db) for db in trace.own_db] for series, trace in traces.items() if trace and trace.own_db}
    found: dict[str, Any] = {"own_db": known} if known else {}
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


def memory_map(graph: Graph) -> dict[str, Any]:
    """The plan of a graph's activations, largest first."""
    plan = plan_arena(graph)
    slots = sorted(plan.slots, key=lambda slot: -slot.bytes)
    rows = [[graph.tensors[s.tensor].name, s.offset, s.bytes, s.first, s.last] for s in slots]
    return {"bytes": plan.bytes, "ops": len(graph.ops), "slots": rows}


def sample_rows(samples: Iterable[WorstSample]) -> list[dict[str, Any]]:
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


def written(details: Mapping[str, Any]) -> str:
    """Details as the text of their file: a line for each op and sample."""
    body = finite({"schema": SCHEMA, "version": VERSION, **details})
    lines = []
    for key, value in body.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]" if rows else f"{json.dumps(key)}: []")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
