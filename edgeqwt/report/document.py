"""A build's result as plain data: what `report.json` holds.

docs/report.md explains it; `body.Report` says what is in it, and docs/report.schema.json is made from that.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from edgeqwt.calibration.samples import HELD_OUT, HOLD_OUT_EVERY
from edgeqwt.compensation.cwac import Change
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import bit_operations
from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED
from edgeqwt.options import values_of
from edgeqwt.output import finite, plain
from edgeqwt.passes.run import Made
from edgeqwt.pipeline import FLOAT, BuildResult
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.report import body, rows
from edgeqwt.report.manifest import SCHEMA
from edgeqwt.report.widths import widths
from edgeqwt.runtime.qualcomm import Compiled
from edgeqwt.verify.bitexact import Difference
from edgeqwt.verify.choice import gain_at, split_at
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.quality import Quality, TensorQuality

DELEGATED = "delegated_ops"  # the rule on ops that XNNPACK takes


def document(result: BuildResult) -> dict[str, Any]:
    """The report of a build, ready for JSON: numbers that are not finite become null."""
    graphs = variants(result)
    report = body.Report(
        schema=SCHEMA,
        version=body.VERSION,
        sources=result.sources,
        target=_target(result.target),
        recipe=_recipe(result.recipe),
        model=_model(result),
        converter=_converter(result),
        samples=_samples(result),
        parity=result.parity,
        adapted=result.adapted,
        findings=result.findings,
        kept=result.choice,
        ceiling=result.ceiling,
        own_errors=_own_errors(result.own),
        shortfalls=result.shortfalls,
        remedy=result.remedy,
        assignment=result.assignment,
        techniques=_techniques(result.made),
        gradients_stop=result.made.notes,
        structure=result.made.structure,
        gains=result.gains,
        package=result.package,
        npu=_npu(result.placed),
        layers=_layers(result),
        outputs={name: _outputs(result.model, quality) for name, quality in result.quality.items()},
        paired={b: _paired(result.quality[a], result.quality[b]) for a, b in pairwise(result.quality)},
        scores=result.scores,
        bytes=result.sizes,
        compressed_bytes=result.compressed,
        bit_operations=bit_operations(result.graph),
        ops={name: _ops(graph) for name, graph in graphs.items()},
        widths=widths(result.graph),
        cost_of_compensation=_cost(graphs, result.sizes),
        runtimes=_runtimes(result),
        groups=_groups(result),
        limits=_limits(result),
        seconds={name: round(value, 3) for name, value in result.seconds.items()},
        peak_mib=result.peaks,
        layer_costs={
            stage: {name: replace(cost, seconds=round(cost.seconds, 3)) for name, cost in costs.items()}
            for stage, costs in result.layer_costs.items()
        },
        versions=result.versions,
        machine=f"{platform.system()} {platform.machine()}",
    )
    cleaned: dict[str, Any] = finite(plain(report))
    return cleaned


def _samples(result: BuildResult) -> body.SampleCounts:
    return body.SampleCounts(
        calibration=result.samples,
        held_out=len(range(HELD_OUT, result.samples, HOLD_OUT_EVERY)),
        layers=result.quality[result.choice.name].layer_samples,
        evaluation=result.evaluated,
        warnings=result.warnings,
    )


def _target(target: TargetProfile) -> body.Target:
    plugin = None if target.plugin is None else body.Compiler(target.plugin.vendor, target.plugin.soc)
    return body.Target(**{**values_of(target), "plugin": plugin})


def _npu(placed: Compiled | None) -> body.Compilation | None:
    if placed is None:
        return None
    return body.Compilation(placed.soc, placed.ops, placed.partitions, placed.left)


def _own_errors(found: OwnErrors) -> rows.RankedErrors:
    """Own errors of a model's ops, in order, each with its rank among those that compute something."""
    ranks = {(op.op, op.tensor): rank for rank, op in enumerate(found.worst, start=1)}
    ops = tuple(rows.RankedError(**vars(op), rank=ranks.get((op.op, op.tensor))) for op in found.ops)
    return rows.RankedErrors(found.samples, found.unpaired, found.skipped, ops)


def variants(result: BuildResult) -> dict[str, Graph]:
    """The float graph that was lowered and every integer graph made of it, by the name of the variant."""
    return {FLOAT: result.prepared.graph, **result.variants}


def _layers(result: BuildResult) -> tuple[rows.LayerRow, ...]:
    """One row per linear layer or other op that is corrected, in order."""
    layers = {name: {layer.tensor: layer for layer in quality.layers} for name, quality in result.quality.items()}
    plain, compensated = layers[UNCOMPENSATED], layers.get(COMPENSATED, {})
    changes = {change.name: change for change in result.outcome.changes} if result.outcome else {}
    skips = result.outcome.skips if result.outcome else ()
    made_by = {result.uncompensated.tensors[t].name: op.kind for op in result.uncompensated.ops for t in op.outputs}
    # Layers that could not be compared by name, or were left alone as a whole, have their row all the same.
    known = {*plain, *changes, *(skip.name for skip in skips)}
    return tuple(
        rows.LayerRow(
            name=name,
            location=result.model.locations.get(name, ""),
            kind=kind,
            sqnr_db=rows.BeforeAfter(_sqnr(plain.get(name)), _sqnr(compensated.get(name))),
            fit=_fit(changes.get(name)),
            skipped=tuple(rows.SkippedChannels(s.channels, s.reason) for s in skips if s.name == name),
        )
        for name, kind in made_by.items()
        if name in known
    )


def _fit(change: Change | None) -> rows.Fit | None:
    if change is None:
        return None
    return rows.Fit(
        channels=change.channels,
        with_gain=change.with_gain,
        with_offset=change.with_offset,
        gain=(change.gain_low, change.gain_high),
        sqnr_db=rows.BeforeAfter(change.error_before, change.error_after),
        output_scale=change.scale,
    )


def _techniques(made: Made) -> tuple[body.TechniqueRun, ...]:
    """What each technique did, in order, with its options."""
    return tuple(
        body.TechniqueRun(
            step.technique.name, values_of(step.technique), step.account.kept, step.account.sentences, step.account.data
        )
        for step in made.steps
    )


def _recipe(recipe: Recipe) -> body.Options:
    listed = tuple({"name": technique.name, **values_of(technique)} for technique in recipe.techniques)
    return body.Options(**{**values_of(recipe), "techniques": listed})


def _converter(result: BuildResult) -> body.Converter | None:
    found = result.model
    return body.Converter(found.converter, found.cached, found.attempts) if found.converter else None


def _limits(result: BuildResult) -> body.Limits | None:
    seconds, memory = result.limits.seconds, result.limits.memory
    return None if seconds is None and memory is None else body.Limits(seconds, memory, result.limited)


def _groups(result: BuildResult) -> body.Grouped | None:
    if result.groups is None:
        return None
    rows = tuple(
        body.SignatureGroup(
            signature=group.key,
            lowest=group.lowest,
            below=group.below,
            own=group.own,
            db=group.quality.worst_db,
            one_set_db=group.before.worst_db,
            gain_db=group.gain_db,
            exact=group.runtimes is not None and group.runtimes.ok,
        )
        for group in result.groups.found
    )
    return body.Grouped(result.groups.input, result.groups.reason, len(result.to_bytes()), rows)


def _model(result: BuildResult) -> body.Model:
    """What goes in and comes out, in the source's terms and in those of the file that was kept."""

    def ends(bindings: Iterable[Binding], before: Iterable[int], after: Iterable[int]) -> tuple[body.End, ...]:
        found = dict(zip(before, after, strict=True))
        return tuple(_end(b, result.graph, found[b.tensor]) for b in bindings)

    model, graph = result.model, result.graph
    inputs = ends(model.inputs, model.graph.inputs, graph.inputs)
    outputs = ends(model.outputs, model.graph.outputs, graph.outputs)
    return body.Model(inputs, outputs, model.constants, model.notes, result.prepared.changes)


def _end(binding: Binding, graph: Graph, t: int) -> body.End:
    tensor, q = graph.tensors[t], graph.tensors[t].quantization
    file = body.FileTensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=None if q is None else float(q.scale[0]),
        zero_point=None if q is None else int(q.zero_point[0]),
        permutation=binding.permutation,
    )
    return body.End(binding.spec.name, binding.spec.shape, binding.spec.dtype, file)


def _outputs(model: ConvertedModel, quality: Quality) -> tuple[rows.Output, ...]:
    """One row per output of the graph, each with its name in the source and the tensor that the gate judged."""
    names = {binding.tensor: binding.spec.name for binding in model.outputs}
    return tuple(
        rows.Output(
            **vars(found.closeness),
            name=names.get(t, ""),
            tensor=found.tensor,
            parts=tuple(
                rows.Part(**vars(part.closeness), name=part.name, unresolved=part.unresolved) for part in found.parts
            ),
            judged_at=rows.Judged(
                judged.tensor,
                judged.closeness.sqnr_db,
                judged.closeness.varying_db,
                judged.standard_error,
                judged.unresolved,
            ),
        )
        for t, found, judged in zip(model.graph.outputs, quality.outputs, quality.decisive, strict=True)
    )


def _paired(before: Quality, after: Quality) -> tuple[rows.PairedOutput, ...]:
    """What a model gains over the one before it, sample by sample, at each output."""
    gains = [gain_at(before, after, k) for k in range(len(after.outputs))]
    return tuple(rows.PairedOutput(g.db, g.standard_error, split_at(before, after, k)) for k, g in enumerate(gains))


def _ops(graph: Graph) -> rows.OpCounts:
    return rows.OpCounts(len(graph.ops), dict(sorted(Counter(op.kind for op in graph.ops).items())))


def _cost(graphs: Mapping[str, Graph], sizes: Mapping[str, int]) -> rows.Cost | None:
    if COMPENSATED not in graphs:
        return None
    before, after = ([op.kind for op in graphs[name].ops] for name in (UNCOMPENSATED, COMPENSATED))
    return rows.Cost(len(after) - len(before), sizes[COMPENSATED] - sizes[UNCOMPENSATED], before == after)


def _runtimes(result: BuildResult) -> rows.Runtimes:
    graph, found = result.graph, result.runtimes
    micro = rows.Micro(
        ok=found.ok,
        ops=found.ops,
        elements=found.elements,
        differences=_differences(graph, found.differences),
        lacking=found.lacking,
        unavailable=found.unavailable,
    )
    xnnpack = rows.Xnnpack(
        largest_steps=largest_steps(graph, found.xnnpack),
        largest_steps_at_outputs=largest_steps(graph, found.xnnpack_outputs),
        not_taken=_not_taken(result),
        tensors=_differences(graph, found.xnnpack),
    )
    return rows.Runtimes(found.samples, found.overwritten, micro, xnnpack)


def _not_taken(result: BuildResult) -> dict[str, int] | None:
    """How many ops of each kind and type XNNPACK leaves to other kernels; None where the target has no XNNPACK."""
    if DELEGATED not in result.target.limits:
        return None
    kinds = Counter(f.reason.partition(": ")[0] for f in result.findings if f.rule == DELEGATED)
    return dict(kinds.most_common())


def largest_steps(graph: Graph, differences: Iterable[Difference]) -> float | None:
    """The largest difference between integer tensors, in steps of their scale; None when there are none."""
    return max((d.largest for d in differences if not _is_real(graph, d)), default=None)


def _differences(graph: Graph, differences: Iterable[Difference]) -> tuple[rows.TensorDifference, ...]:
    return tuple(rows.TensorDifference(**vars(d), unit="real" if _is_real(graph, d) else "steps") for d in differences)


def _is_real(graph: Graph, difference: Difference) -> bool:
    """Whether it is the difference of a float tensor, as there are at float borders."""
    tensors = (graph.tensors[t] for t in graph.ops[difference.op].outputs)
    return any(tensor.is_float for tensor in tensors if tensor.name == difference.tensor)


def _sqnr(found: TensorQuality | None) -> float | None:
    return None if found is None else found.closeness.sqnr_db
