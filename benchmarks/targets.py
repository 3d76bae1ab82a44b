"""Proof that compensation is free: compensated and uncompensated files side by side on every target."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import CALIBRATION, Requirement, cifar10, equal, finish, normalized, show
from mlperf_tiny import file, image_classification, visual_wake_words
from models.resnet20_cifar10 import create

import edgeqwt
from edgeqwt.benchmark.host_tasks import latencies
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED
from edgeqwt.output import progress_display
from edgeqwt.profile import Npu
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.runtime.child import in_child
from edgeqwt.runtime.vela import compile_model
from edgeqwt.target.load import load, names

RECIPE = "fast"
VARIANTS = (UNCOMPENSATED, COMPENSATED)
PROCESSES = 4  # where its memory comes to lie makes a process quicker or slower as a whole
TOLERANCE = 0.02  # of the ratio of latencies; the other ratios must be 1
SECONDS = 120.0  # at most for one process's runs


@dataclass(frozen=True)
class Row:
    """One figure of both files; `form` says how people read it."""

    target: str
    what: str
    before: float
    after: float
    form: str = "{:,.0f}"

    @property
    def ratio(self) -> float:
        """Compensated by uncompensated; 1 where both are 0."""
        return 1.0 if self.before == self.after else self.after / self.before if self.before else float("inf")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="paired runs of each model with XNNPACK (default: 400)")
    runs = parser.parse_args().runs
    npus = {name: npu for name in names() if (npu := load(name).npu)}
    requirements: list[Requirement] = []
    for name, graphs in built():
        rows = list(figures(graphs, runs, npus))
        table = [(r.target, r.what, r.form.format(r.before), r.form.format(r.after), f"{r.ratio:.4f}") for r in rows]
        title = f"{name}, recipe {RECIPE!r}; latency: least of {runs} interleaved paired runs"
        show(title, ("target", "figure", "uncompensated", "compensated", "ratio"), table)
        requirements += required(name, graphs, rows)
    finish(requirements)


def required(name: str, graphs: Mapping[str, Graph], rows: Sequence[Row]) -> Iterator[Requirement]:
    """Equal, and for latencies equal but for what a shared machine does to a minimum."""
    kinds, content = zip(*(([op.kind for op in g.ops], flatbuffer.to_bytes(g)) for g in graphs.values()), strict=True)
    yield equal(f"{name}: the files differ", content[0] != content[1], True)
    yield equal(f"{name}: the same ops in the same order", kinds[0] == kinds[1], True)
    by_figure: dict[str, list[float]] = {}
    for row in rows:
        by_figure.setdefault(row.what, []).append(row.ratio)
    for what, ratios in by_figure.items():
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        text = f"{name}: {what}, ratio" + (f" on {len(ratios)} NPUs" if len(ratios) > 1 else "")
        if "latency" in what:
            yield Requirement(text, f"1 ± {TOLERANCE}", f"{worst:.4f}", abs(worst - 1) <= TOLERANCE)
        else:
            yield equal(text, worst, 1.0)


def built() -> Iterator[tuple[str, Mapping[str, Graph]]]:
    """Each model's files; keyword spotting is missing, as its float file has int8 weights."""
    images = {"x": normalized(cifar10()["calibration_images"][:CALIBRATION])}
    yield "resnet20", variants(create(), images)
    for task in (image_classification(), visual_wake_words()):
        source = file(task.name, "float32")
        graph = flatbuffer.read(source)
        yield task.name, variants(source, {graph.tensors[graph.inputs[0]].name: task.folds[0][0]})


def variants(model: object, calibration: object) -> Mapping[str, Graph]:
    """The same build with and without compensation."""
    result = edgeqwt.build(model, calibration=calibration, recipe=RECIPE, display=progress_display())  # type: ignore[arg-type]
    if COMPENSATED not in result.variants:
        sys.exit(f"recipe {RECIPE!r} did not compensate")
    return {variant: result.variants[variant] for variant in VARIANTS}


def figures(graphs: Mapping[str, Graph], runs: int, npus: Mapping[str, Npu]) -> Iterator[Row]:
    """What every target can tell of both files."""
    before, after = (flatbuffer.to_bytes(graphs[variant]) for variant in VARIANTS)
    yield Row("all", "ops", len(graphs[UNCOMPENSATED].ops), len(graphs[COMPENSATED].ops))
    yield Row("all", "file, bytes", len(before), len(after))
    quick = least([graphs[variant] for variant in VARIANTS], runs)
    yield Row("tflite", "XNNPACK latency, µs", *(1e6 * seconds for seconds in quick), form="{:,.1f}")
    arenas = [measure_arena(model) for model in (before, after)]
    yield Row("tflm*", "arena, bytes", *(arena.bytes for arena in arenas))
    yield Row("tflm*", "arena with 32-bit pointers, bytes", *(arena.bytes32 for arena in arenas))
    for name, npu in npus.items():
        compiled = [compile_model(model, npu) for model in (before, after)]
        yield Row(name, "Vela's cycles", *(one.cycles["total"] for one in compiled))
        yield Row(name, "Vela's SRAM, bytes", *(one.memory["sram"] for one in compiled))
        yield Row(name, "ops on the NPU", *(sum(op.where == "NPU" for op in one.ops) for one in compiled))


def least(graphs: Sequence[Graph], runs: int) -> list[float]:
    """The least seconds of each graph: runs take turns, and processes swap who is loaded first."""
    found: list[list[float]] = [[] for _ in graphs]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.tflite" for k in range(len(graphs))]
        for path, graph in zip(paths, graphs, strict=True):
            flatbuffer.write(graph, path)
        inputs = [next(random_inputs(graph, 1)) for graph in graphs]
        for turn in range(PROCESSES):
            order = list(range(len(graphs)))[:: 1 if turn % 2 == 0 else -1]
            seconds = in_child(
                latencies,
                [str(paths[k]) for k in order],
                "xnnpack",
                1,
                [inputs[k] for k in order],
                -(-runs // PROCESSES),
                SECONDS,
            )
            for k, own in zip(order, seconds, strict=True):
                found[k] += own
    return [min(own) for own in found]


if __name__ == "__main__":
    main()
