"""A build's result as plain data: what `report.json` holds.

docs/report.md explains it and docs/report.schema.json pins it; `VERSION` rises when a field goes
or changes its meaning.
"""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from edgeqwt.calibration.samples import HELD_OUT, HOLD_OUT_EVERY
from edgeqwt.compensation.cwac import Change
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED
from edgeqwt.mixed.build import Assignment
from edgeqwt.options import values_of
from edgeqwt.output import finite, plain
from edgeqwt.passes.run import Made
from edgeqwt.pipeline import FLOAT, BuildResult
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.report.folder import SCHEMA
from edgeqwt.report.widths import widths
from edgeqwt.rounding.structure import compressed
from edgeqwt.runtime.qualcomm import Compiled
from edgeqwt.verify.bitexact import Difference
from edgeqwt.verify.choice import gain_at, split_at
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.quality import Quality, TensorQuality

VERSION = 3
DELEGATED = "delegated_ops"  # the rule on ops that XNNPACK takes


def document(result: BuildResult) -> dict[str, Any]:
    """The report of a build, ready for JSON: numbers that are not finite become null."""
    graphs = variants(result)
    body = {
        "schema": SCHEMA,
        "version": VERSION,
        "sources": dataclasses.asdict(result.sources),
        "target": _target(result.target),
        "recipe": _recipe(result.recipe),
        "model": _model(result),
        "converter": _converter(result.model),
        "samples": {
            "calibration": result.samples,
            "held_out": len(range(HELD_OUT, result.samples, HOLD_OUT_EVERY)),
            "evaluation": result.evaluated,
            "warnings": list(result.warnings),
        },
        "parity": dataclasses.asdict(result.parity),
        "adapted": list(result.adapted),
        "findings": [dataclasses.asdict(finding) for finding in result.findings],
        "kept": dataclasses.asdict(result.choice),
        "ceiling": None if result.ceiling is None else dataclasses.asdict(result.ceiling),
        "own_errors": own_errors(result.own),
        "shortfalls": [dataclasses.asdict(found) for found in result.shortfalls],
        "remedy": result.remedy,
        "assignment": _assignment(result.assignment),
        "techniques": _techniques(result.made),
        "gradients_stop": list(result.made.notes),
        "structure": [dataclasses.asdict(row) for row in result.made.structure],
        "compressed_bytes": compressed_sizes(result),
        "gains": [dataclasses.asdict(gain) for gain in result.gains],
        "package": list(result.package),
        "npu": _npu(result.placed),
        "layers": layers(result),
        "outputs": {name: _outputs(result.model, quality) for name, quality in result.quality.items()},
        "paired": {b: _paired(result.quality[a], result.quality[b]) for a, b in pairwise(result.quality)},
        "scores": {name: dict(scores) for name, scores in result.scores.items()},
        "bytes": dict(result.sizes),
        "ops": {name: _ops(graph) for name, graph in graphs.items()},
        "widths": dataclasses.asdict(widths(result.graph)),
        "cost_of_compensation": _cost(graphs, result.sizes),
        "runtimes": _runtimes(result),
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "versions": dict(result.versions),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    cleaned: dict[str, Any] = finite(body)
    return cleaned


def _target(target: TargetProfile) -> dict[str, Any]:
    """The profile; of a vendor's compiler what it is for, not where it lies here."""
    plugin = target.plugin
    found: dict[str, Any] = plain(dataclasses.replace(target, plugin=None))
    return {**found, "plugin": None if plugin is None else {"vendor": plugin.vendor, "soc": plugin.soc}}


def _npu(placed: Compiled | None) -> dict[str, Any] | None:
    """What an NPU's compiler took of the file, and in how many pieces."""
    if placed is None:
        return None
    left = [dataclasses.asdict(op) for op in placed.left]
    return {"soc": placed.soc, "ops": placed.ops, "partitions": placed.partitions, "on_cpu": left}


def own_errors(found: OwnErrors) -> dict[str, Any]:
    """Own errors of a model's ops, in order, each with its rank among those that compute something."""
    ranks = {(op.op, op.tensor): rank for rank, op in enumerate(found.worst, start=1)}
    ops = [{**dataclasses.asdict(op), "rank": ranks.get((op.op, op.tensor))} for op in found.ops]
    return {"samples": found.samples, "unpaired": found.unpaired, "skipped": found.skipped, "ops": ops}


def variants(result: BuildResult) -> dict[str, Graph]:
    """The float graph that was lowered and every integer graph made of it, by the name of the variant."""
    return {FLOAT: result.prepared.graph, **result.variants}


def compressed_sizes(result: BuildResult) -> dict[str, int]:
    """Bytes of each variant's file after DEFLATE."""
    return {name: compressed(flatbuffer.to_bytes(graph)) for name, graph in variants(result).items()}


def layers(result: BuildResult) -> list[dict[str, Any]]:
    """One row per linear layer or other op that is corrected, in order: its SQNR, what was fitted and skipped."""
    layers = {name: {layer.tensor: layer for layer in quality.layers} for name, quality in result.quality.items()}
    plain, compensated = layers[UNCOMPENSATED], layers.get(COMPENSATED, {})
    changes = {change.name: change for change in result.outcome.changes} if result.outcome else {}
    skips = result.outcome.skips if result.outcome else ()
    made_by = {result.uncompensated.tensors[t].name: op.kind for op in result.uncompensated.ops for t in op.outputs}
    # Layers that could not be compared by name, or were left alone as a whole, have their row all the same.
    known = {*plain, *changes, *(skip.name for skip in skips)}
    return [
        {
            "name": name,
            "location": result.model.locations.get(name, ""),
            "kind": kind,
            "sqnr_db": {"before": _sqnr(plain.get(name)), "after": _sqnr(compensated.get(name))},
            "fit": _fit(changes.get(name)),
            "skipped": [{"channels": s.channels, "reason": s.reason} for s in skips if s.name == name],
        }
        for name, kind in made_by.items()
        if name in known
    ]


def _fit(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "channels": change.channels,
        "with_gain": change.with_gain,
        "with_offset": change.with_offset,
        "gain": [change.gain_low, change.gain_high],
        "sqnr_db": {"before": change.error_before, "after": change.error_after},
        "output_scale": change.scale,
    }


def _assignment(found: Assignment | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "layers": [dataclasses.asdict(layer) for layer in found.layers],
        "wide": list(found.wide),
        "copies": found.copies,
        "bytes": found.size,
        "relative_time": found.time,
        "predicted_db": found.predicted_db,
        "measured_db": found.measured_db,
        "builds": found.tries,
    }


def _techniques(made: Made) -> list[dict[str, Any]]:
    """What each technique did, in order, with its options."""
    return [
        {
            "name": step.technique.name,
            "options": values_of(step.technique),
            "kept": step.account.kept,
            "sentences": list(step.account.sentences),
            "data": plain(step.account.data),
        }
        for step in made.steps
    ]


def _recipe(recipe: Recipe) -> dict[str, Any]:
    listed = [{"name": technique.name, **values_of(technique)} for technique in recipe.techniques]
    rest = {name: value for name, value in values_of(recipe).items() if name != "techniques"}
    entries = {key: plain(value) for key, value in rest.items()}
    return {**entries, "preserve": list(recipe.preserve), "techniques": listed}


def _model(result: BuildResult) -> dict[str, Any]:
    """What goes in and comes out, in the source's terms and in those of the file that was kept."""
    interface = (
        ("inputs", result.model.inputs, result.model.graph.inputs, result.graph.inputs),
        ("outputs", result.model.outputs, result.model.graph.outputs, result.graph.outputs),
    )
    entries: dict[str, Any] = {
        side: [_end(b, result.graph, dict(zip(before, after, strict=True))[b.tensor]) for b in bindings]
        for side, bindings, before, after in interface
    }
    return {**entries, "notes": result.model.notes, "rewrites": result.prepared.changes}


def _converter(model: ConvertedModel) -> dict[str, Any] | None:
    """Which converter was taken, and what those did wrong that were tried before; None for a .tflite source."""
    if not model.converter:
        return None
    return {"name": model.converter, "failed": [dataclasses.asdict(attempt) for attempt in model.attempts]}


def _end(binding: Binding, graph: Graph, t: int) -> dict[str, Any]:
    tensor, q = graph.tensors[t], graph.tensors[t].quantization
    return {
        "name": binding.spec.name,
        "shape": binding.spec.shape,
        "dtype": binding.spec.dtype,
        "file": {
            "name": tensor.name,
            "shape": tensor.shape,
            "dtype": tensor.dtype,
            "scale": None if q is None else float(q.scale[0]),
            "zero_point": None if q is None else int(q.zero_point[0]),
            "permutation": binding.permutation,
        },
    }


def _outputs(model: ConvertedModel, quality: Quality) -> list[dict[str, Any]]:
    """One row per output of the graph, each with its name in the source and the tensor that the gate judged."""
    names = {binding.tensor: binding.spec.name for binding in model.outputs}
    return [
        {
            "name": names.get(t, ""),
            "tensor": found.tensor,
            **dataclasses.asdict(found.closeness),
            "parts": [{"name": part.name, **dataclasses.asdict(part.closeness)} for part in found.parts],
            "judged_at": {
                "tensor": judged.tensor,
                "sqnr_db": judged.closeness.sqnr_db,
                "varying_db": judged.closeness.varying_db,
            },
        }
        for t, found, judged in zip(model.graph.outputs, quality.outputs, quality.decisive, strict=True)
    ]


def _paired(before: Quality, after: Quality) -> list[dict[str, Any]]:
    """What a model gains over the one before it, sample by sample, at each output."""
    rows = []
    for k in range(len(after.outputs)):
        gained, classes = gain_at(before, after, k), split_at(before, after, k)
        row = {"gain_db": gained.db, "standard_error": gained.standard_error}
        entries = None if classes is None else dataclasses.asdict(classes)
        rows.append({**row, "classes": entries})
    return rows


def _ops(graph: Graph) -> dict[str, Any]:
    return {"total": len(graph.ops), "kinds": dict(sorted(Counter(op.kind for op in graph.ops).items()))}


def _cost(graphs: Mapping[str, Graph], sizes: Mapping[str, int]) -> dict[str, Any] | None:
    if COMPENSATED not in graphs:
        return None
    before, after = ([op.kind for op in graphs[name].ops] for name in (UNCOMPENSATED, COMPENSATED))
    return {
        "ops": len(after) - len(before),
        "bytes": sizes[COMPENSATED] - sizes[UNCOMPENSATED],
        "same_order_of_ops": before == after,
    }


def _runtimes(result: BuildResult) -> dict[str, Any]:
    graph, found = result.graph, result.runtimes
    return {
        "samples": found.samples,
        "overwritten": list(found.overwritten),
        "tflite_micro": {
            "ok": found.ok,
            "ops": found.ops,
            "elements": found.elements,
            "differences": [_difference(graph, d) for d in found.differences],
            "lacking": [dataclasses.asdict(lack) for lack in found.lacking],
            "unavailable": found.unavailable,
        },
        "xnnpack": {
            "largest_steps": largest_steps(graph, found.xnnpack),
            "largest_steps_at_outputs": largest_steps(graph, found.xnnpack_outputs),
            "not_taken": _not_taken(result),
            "tensors": [_difference(graph, d) for d in found.xnnpack],
        },
    }


def _not_taken(result: BuildResult) -> dict[str, int] | None:
    """How many ops of each kind and type XNNPACK leaves to other kernels; None where the target has no XNNPACK."""
    if DELEGATED not in result.target.limits:
        return None
    kinds = Counter(f.reason.partition(": ")[0] for f in result.findings if f.rule == DELEGATED)
    return dict(kinds.most_common())


def largest_steps(graph: Graph, differences: Iterable[Difference]) -> float | None:
    """The largest difference between integer tensors, in steps of their scale; None when there are none."""
    return max((d.largest for d in differences if not _is_real(graph, d)), default=None)


def _difference(graph: Graph, difference: Difference) -> dict[str, Any]:
    return {**dataclasses.asdict(difference), "unit": "real" if _is_real(graph, difference) else "steps"}


def _is_real(graph: Graph, difference: Difference) -> bool:
    """Whether it is the difference of a float tensor, as there are at float borders."""
    tensors = (graph.tensors[t] for t in graph.ops[difference.op].outputs)
    return any(tensor.is_float for tensor in tensors if tensor.name == difference.tensor)


def _sqnr(found: TensorQuality | None) -> float | None:
    return None if found is None else found.closeness.sqnr_db
