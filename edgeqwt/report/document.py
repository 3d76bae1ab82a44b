"""A build's result as plain data: what `report.json` holds.

docs/report.schema.json describes it; `VERSION` rises when a field changes its meaning or goes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgeqwt.calibration.samples import HELD_OUT, HOLD_OUT_EVERY
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import COMPENSATED, UNCOMPENSATED, BuildResult
from edgeqwt.report.folder import SCHEMA
from edgeqwt.verify.layers import Place, Quality

VERSION = 1


def document(result: BuildResult) -> dict[str, Any]:
    """The report of a build, ready for JSON: numbers that are not finite become null."""
    recipe = dataclasses.asdict(result.recipe)
    recipe["ranges"] = {"rule": type(result.recipe.ranges).__name__.lower(), **recipe["ranges"]}
    body = {
        "schema": SCHEMA,
        "version": VERSION,
        "target": dataclasses.asdict(result.target),
        "recipe": recipe,
        "source": {
            "inputs": [_binding(b, result.model) for b in result.model.inputs],
            "outputs": [_binding(b, result.model) for b in result.model.outputs],
            "notes": list(result.model.notes),
            "rewrites": list(result.prepared.changes),
        },
        "samples": {"calibration": result.samples, "held_out": len(range(HELD_OUT, result.samples, HOLD_OUT_EVERY))},
        "parity": dataclasses.asdict(result.parity),
        "kept": dataclasses.asdict(result.choice),
        "layers": layers(result),
        "outputs": {name: _outputs(quality) for name, quality in result.quality.items()},
        "scores": {name: dict(scores) for name, scores in result.scores.items()},
        "bytes": dict(result.sizes),
        "ops": {
            "float": _ops(result.prepared.graph),
            "int8": _ops(result.graph),
        },
        "interface": {"inputs": _interface(result.graph, "inputs"), "outputs": _interface(result.graph, "outputs")},
        "runtimes": dataclasses.asdict(result.runtimes),
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "versions": dict(result.versions),
    }
    cleaned: dict[str, Any] = _finite(body)
    return cleaned


def layers(result: BuildResult) -> list[dict[str, Any]]:
    """One row per linear layer: SQNR of its output before and after compensation, gains, skips and their reasons."""
    after = {place.tensor: place.closeness for place in _layers(result, COMPENSATED)}
    changes = {c.name: c for c in result.outcome.changes} if result.outcome else {}
    rows = []
    for place in _layers(result, UNCOMPENSATED):
        name = place.tensor
        change = changes.get(name)
        skips = [s for s in result.outcome.skips if s.name == name] if result.outcome else []
        row: dict[str, Any] = {
            "name": name,
            "place": result.model.places.get(name, ""),
            "op": place.op,
            "kind": place.kind,
            "sqnr_db": {"before": place.closeness.sqnr_db, "after": after[name].sqnr_db if name in after else None},
            "skipped": [{"channels": s.channels, "reason": s.reason} for s in skips],
        }
        if change is not None:
            row |= {
                "channels": change.channels,
                "with_gain": change.with_gain,
                "with_offset": change.with_offset,
                "gain": [change.gain_low, change.gain_high],
                "scale": change.scale,
            }
        rows.append(row)
    return rows


def _layers(result: BuildResult, variant: str) -> tuple[Place, ...]:
    return result.quality[variant].layers if variant in result.quality else ()


def _binding(binding: Binding, model: ConvertedModel) -> dict[str, Any]:
    tensor = model.graph.tensors[binding.tensor]
    return {
        "name": binding.spec.name,
        "shape": list(binding.spec.shape),
        "dtype": binding.spec.dtype,
        "tensor": tensor.name,
        "tensor_shape": list(tensor.shape),
        "permutation": binding.permutation,
    }


def _interface(graph: Graph, side: str) -> list[dict[str, Any]]:
    rows = []
    for t in graph.inputs if side == "inputs" else graph.outputs:
        tensor, q = graph.tensors[t], graph.tensors[t].quantization
        rows.append(
            {
                "tensor": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "scale": None if q is None else float(q.scale[0]),
                "zero_point": None if q is None else int(q.zero_point[0]),
            }
        )
    return rows


def _outputs(quality: Quality) -> dict[str, Any]:
    return {place.tensor: dataclasses.asdict(place.closeness) for place in quality.outputs}


def _ops(graph: Graph) -> dict[str, int]:
    return dict(sorted(Counter(op.kind for op in graph.ops).items()))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(v) for v in value]
    return value
