"""Snapdragon's NPU: what its compiler takes of a model, and the model in the NPU's arithmetic, simulated here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeqwt.benchmark.describe import of_model, read_model, this_machine
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.benchmark.result import NOT_ON_HARDWARE, SIMULATED, BenchResult, Check, Figure, OpDifference
from edgeqwt.errors import ToolError, UnsupportedError, listed
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.onnx_qdq.emitters import to_onnx
from edgeqwt.profile import Plugin
from edgeqwt.runtime.htp import Job, Simulated, simulate
from edgeqwt.runtime.qualcomm import Compiled, Toolchain, compile_model
from edgeqwt.runtime.runners import reference

SAMPLES = 4
NAMED = 5
OPS = 96
"""Ops that run by themselves; those that are alike, in kind, shapes, types and options, run once."""


def bench_qualcomm(path: Path, plugin: Plugin, seed: int = 0) -> BenchResult:
    """Compiles a model for the NPU, and runs it and each of its ops in the NPU's simulation.

    Args:
        path: an integer .tflite file.
        plugin: of the target.
        seed: of random inputs.

    Raises:
        InputError: no model.
        ToolError: the compiler or the simulation is missing or fails.
        UnsupportedError: an op has no form in ONNX.
    """
    data, graph = read_model(path)
    if plugin.toolchain is None:
        raise ToolError("apply_plugin_main", None, "", plugin.missing)
    outputs = {graph.tensors[op.outputs[0]].name: (i, op.kind) for i, op in enumerate(graph.ops)}
    compiled = compile_model(data, outputs, plugin.vendor, plugin.soc, plugin.toolchain)
    feeds = list(random_inputs(graph, SAMPLES, seed))
    whole, steps, share = _whole(graph, feeds, plugin)
    ops, refused = _ops(graph, feeds[0], plugin.soc, plugin.toolchain)
    return BenchResult(
        **of_model(path, data, graph),
        where=plugin.soc,
        evidence=SIMULATED,
        figures=(
            Figure("partitions", "", compiled.partitions, ""),
            Figure("ops_on_cpu", "", len(compiled.left), ""),
            Figure("compiled_file", "", len(compiled.model), "B"),
            *([] if whole.refused else [Figure("largest_difference", "reference", steps, "steps")]),
            *([] if whole.refused else [Figure("values_that_differ", "reference", 100 * share, "%")]),
        ),
        checks=(_placed(compiled), _ran(whole)),
        differences=ops,
        notes=(
            "A simulation of the NPU's arithmetic on this processor: it says nothing about time.",
            f"Differences are from LiteRT's reference kernels, on {SAMPLES} random inputs, {NOT_ON_HARDWARE}.",
            *([_not_alone(refused)] if refused else []),
        ),
        settings={"soc": plugin.soc, "vendor": plugin.vendor, "seed": str(seed)},
        versions=dict(plugin.toolchain.versions),
        machine=this_machine(),
    )


def simulated(graph: Graph, feeds: Sequence[Mapping[int, Array]], plugin: Plugin) -> Simulated:
    """An integer graph in the simulation, on integers by input tensor.

    Raises:
        ToolError: the simulation is missing or fails.
        UnsupportedError: an op has no form in ONNX.
    """
    if plugin.toolchain is None:
        raise ToolError("the NPU's simulation", None, "", plugin.missing)
    return simulate([_job(graph, feeds)], plugin.soc, plugin.toolchain)[0]


def _job(graph: Graph, feeds: Sequence[Mapping[int, Array]]) -> Job:
    named = [{graph.tensors[t].name: np.asarray(array) for t, array in feed.items()} for feed in feeds]
    return Job(to_onnx(graph, real_casts=True), named)


def _whole(graph: Graph, feeds: Sequence[Mapping[int, Array]], plugin: Plugin) -> tuple[Simulated, float, float]:
    """The whole graph: what came of it, the largest difference in steps, and the share of values that differ."""
    found = simulated(graph, feeds, plugin)
    runner = reference(graph)
    pairs = [
        (array, wanted[t])
        for wanted, outs in zip(map(runner.run, feeds), found.outputs, strict=False)
        for t, array in zip(graph.outputs, outs, strict=True)
    ]
    differences = [np.abs(a.astype(np.float64) - b) for a, b in pairs]
    largest = max((float(d.max(initial=0)) for d in differences), default=0.0)
    return found, largest, float(np.mean([np.mean(d > 0) for d in differences])) if differences else 0.0


def _ops(
    graph: Graph, feed: Mapping[int, Array], soc: str, toolchain: Toolchain
) -> tuple[tuple[OpDifference, ...], list[str]]:
    """Each op by itself, on what LiteRT's reference kernels feed it: how far it is off, and which are refused."""
    written = [t for op in graph.ops for t in op.outputs]
    values = {**feed, **reference(graph, written).run(feed)}
    alike: dict[object, list[int]] = defaultdict(list)
    for i in range(len(graph.ops)):
        alike[_signature(graph, i)].append(i)
    first = [members[0] for members in alike.values()][:OPS]
    jobs, ran, refused = [], [], []
    for i in first:
        part, feeds = _part(graph, i, values)
        try:
            jobs.append(_job(part, [feeds]))
        except UnsupportedError as error:
            refused.append(error.message)
            continue
        ran.append(i)
    found: list[OpDifference] = []
    for i, result in zip(ran, simulate(jobs, soc, toolchain), strict=True):
        if result.refused:
            refused.append(graph.describe(i))
        else:
            wanted = [values[t] for t in graph.ops[i].outputs]
            found.extend(_different(graph, i, result.outputs[0], wanted))
    return tuple(found), refused


def _part(graph: Graph, i: int, values: Mapping[int, Array]) -> tuple[Graph, dict[int, Array]]:
    """One op as a graph, and what it is fed."""
    part, fed = graph.alone(i)
    return replace(part, others=()), {new: values[old] for old, new in fed.items()}


def _different(graph: Graph, i: int, found: Sequence[Array], wanted: Sequence[Array]) -> Iterator[OpDifference]:
    for t, a, b in zip(graph.ops[i].outputs, found, wanted, strict=True):
        off = np.abs(a.astype(np.float64) - b)
        if off.any():
            largest, tensor = float(off.max()), graph.tensors[t]
            # One step is how integer arithmetics round; at 16 bits the kernels themselves are off by more.
            known = largest <= (1 if tensor.dtype != "int16" else 300)
            yield OpDifference(graph.ops[i].kind, i, tensor.name, off.size, int((off > 0).sum()), largest, known)


def _signature(graph: Graph, i: int) -> object:
    """What ops that the simulation treats alike have in common."""
    op = graph.ops[i]

    def of(t: int) -> object:
        tensor = graph.tensors[t] if t >= 0 else None
        return None if tensor is None else (tensor.shape, tensor.dtype, tensor.is_constant)

    return op.kind, tuple(map(of, (*op.inputs, *op.outputs))), tuple(sorted((k, str(v)) for k, v in op.options.items()))


def _placed(found: Compiled) -> Check:
    name = "every op runs on the NPU, in one partition"
    detail = f"{found.ops - len(found.left)} of {found.ops} ops, partitions: {found.partitions}"
    if found.left:
        named = listed([f"{left.kind} {left.tensor[-40:]!r}" for left in found.left], NAMED)
        detail += f"; on the CPU: {named}; `edgeqwt check` says why"
    return Check(name, not found.left and found.partitions == 1, detail)


def _ran(found: Simulated) -> Check:
    return Check("the simulation runs the whole model", not found.refused, found.refused[:200] or "as one graph")


def _not_alone(refused: Sequence[str]) -> str:
    return f"The simulation does not run these ops by themselves: {listed(refused, NAMED)}."
