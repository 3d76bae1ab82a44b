"""Networks with transformer blocks, of our own training (train.py), in integers: quality, size, speed and placement."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from common import (
    CALIBRATION,
    Array,
    Figures,
    Requirement,
    at_hand,
    at_least,
    at_most,
    cifar10,
    equal,
    figures,
    finish,
    normalized,
    outputs,
    show,
    show_figures,
)
from models import hybrid_cifar10, linear_attention_cifar10, vit_cifar10

import edgeqwt
from edgeqwt.benchmark.host import HostSettings, bench_host
from edgeqwt.benchmark.result import BenchResult
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.output import progress_display
from edgeqwt.passes.technique import Technique
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import load
from edgeqwt.report.own_errors import ceiling_sentences
from edgeqwt.runtime.vela import compile_model
from edgeqwt.target.load import load as load_target
from edgeqwt.techniques.aespa import Aespa
from edgeqwt.techniques.ranges import MseRanges
from edgeqwt.widths.precision import Widths, parse

NETWORKS = {"vit": vit_cifar10, "hybrid": hybrid_cifar10, "linear_attention": linear_attention_cifar10}
FLOATING = ("float16", "float32", "float64")
NPU = "ethos-u85-256"
RUNS = HostSettings(runs=200, seconds=20.0, kernels=("xnnpack",))


@dataclass(frozen=True)
class Recipe:
    """How one file is built.

    Attributes:
        label: for people.
        recipe: of edgeqwt.
        precision: in place of the recipe's.
        technique: in the place of that of its role; None: all are the recipe's.
        layers: with 8-bit weights whatever the precision, by the name of the float tensor that each computes.
    """

    label: str
    recipe: str
    precision: str
    technique: Technique | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant(Recipe):
    """One file that is built of each network, and what it must show.

    Attributes:
        accuracy: at most so much below that of the float file.
        agreement: share of images with the float file's class, at least.
        sqnr: of the outputs in dB, at least.
    """

    accuracy: float = 1.0
    agreement: float = 0.0
    sqnr: float = 0.0


VARIANTS = (
    Variant("w8a8, int8 only", "int8-only", "w8a8", accuracy=0.005, agreement=0.975, sqnr=22.0),
    Variant("w8a8, 16-bit regions", "balanced", "w8a8", accuracy=0.005, agreement=0.985, sqnr=26.0),
    Variant("w4a8, 16-bit regions", "balanced", "w4a8", accuracy=0.01),
)
AESPA = Aespa(float_targets=True, scales=8, refine=True)
TRIED = (
    Variant("w4a8, aespa", "balanced", "w4a8", AESPA),
    Variant("w8a8, int8 only, without margins", "int8-only", "w8a8", MseRanges(margins=False)),
)
"""Built where they are named."""


@dataclass(frozen=True)
class Result:
    """What was found of one file.

    Attributes:
        quality: of its outputs.
        bytes: of the file.
        latency: least seconds of a run, XNNPACK, one thread.
        undelegated: ops that XNNPACK does not take, by kind; None where LiteRT reported no times of ops.
        floating: kinds of the ops that touch a float tensor.
        on_npu: ops on the NPU and all ops, as Vela counts them; None for the float file.
        npu_cpu: ops that Vela leaves to the processor, by kind.
    """

    quality: Figures
    bytes: int
    latency: float
    undelegated: Mapping[str, int] | None
    floating: Sequence[str]
    on_npu: tuple[int, int] | None = None
    npu_cpu: Mapping[str, int] | None = None


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="use the first N test images (default: all)")
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["vit", "hybrid"])
    choices = [v.label for v in (*VARIANTS, *TRIED)]
    parser.add_argument("--variants", nargs="+", choices=choices, help=f"default: {len(VARIANTS)} of them")
    parser.add_argument(
        "--leave-one-out", type=int, default=0, metavar="N", help="what each technique gains, on N samples"
    )
    options = parser.parse_args()
    wanted = options.variants or [v.label for v in VARIANTS]
    chosen = [v for v in (*VARIANTS, *TRIED) if v.label in wanted]
    data = cifar10()
    calibration = normalized(data["calibration_images"][:CALIBRATION])
    images, labels = normalized(data["test_images"][: options.images]), data["test_labels"][: options.images]
    requirements: list[Requirement] = []
    for name in options.networks:
        built = {v.label: build(NETWORKS[name], calibration, v, options.leave_one_out) for v in chosen}
        exact, found = measured(built, images, labels)
        show_results(f"{name}, {len(images):,} test images, {CALIBRATION} calibration images", exact, found)
        show_left(name, {"float": exact, **found})
        for v in chosen:
            requirements += required(name, v, found[v.label], exact)
    finish(requirements)


def build(module: ModuleType, calibration: Array, variant: Variant, leave_one_out: int) -> BuildResult:
    """One build from PyTorch; ends the program where the network has not been trained."""
    model = at_hand(module.create)
    return built_and_shown(variant, model, {"x": calibration}, leave_one_out)


def built_and_shown(
    variant: Recipe, source: object, calibration: Mapping[str, Array], leave_one_out: int
) -> BuildResult:
    """One build, and what was decided on the way."""
    precision = replace(parse(variant.precision), layers=dict.fromkeys(variant.layers, Widths()))
    recipe = replace(load(variant.recipe), precision=precision, leave_one_out=leave_one_out)
    recipe = recipe if variant.technique is None else recipe.with_technique(variant.technique)
    built = edgeqwt.build(source, calibration=dict(calibration), recipe=recipe, display=progress_display())
    print(f"{variant.label}: {sum(built.seconds.values()):.0f} s; kept {built.choice.name}, {built.choice.reason}")
    for step in built.made.steps:
        for sentence in step.account.sentences:
            print(f"  {step.technique.name}: {sentence}")
    for sentence in ceiling_sentences(built.ceiling, built.quality[built.choice.name]):
        print(f"  ceiling: {sentence}")
    for gain in built.gains:
        print(f"  without {gain.technique}: {gain.without_db:.2f} dB; it gains {gain.gain_db:.2f} dB")
    return built


def measured(built: Mapping[str, BuildResult], images: Array, labels: Array) -> tuple[Result, dict[str, Result]]:
    """The float file's result and each integer file's by label; the float file is the exported one, unprepared.

    Args:
        built: at least one build, all of the same network.
        images: (n, 3, 32, 32), normalized.
        labels: (n,).
    """
    exported = next(iter(built.values())).model.graph
    graphs = {"float": exported, **{label: result.graph for label, result in built.items()}}
    nhwc = [np.ascontiguousarray(image[None].transpose(0, 2, 3, 1)) for image in images]
    reference = outputs(exported, nhwc)
    speed = dict(zip(graphs, benched(list(graphs.values())), strict=True))
    exact = result_of(exported, figures(reference, reference, labels), speed["float"])
    found = {
        label: with_npu(
            result_of(graphs[label], figures(outputs(graphs[label], nhwc), reference, labels), speed[label]),
            graphs[label],
        )
        for label in built
    }
    return exact, found


def benched(graphs: Sequence[Graph]) -> tuple[BenchResult, ...]:
    """All files side by side: their runs take turns."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.tflite" for k in range(len(graphs))]
        for path, graph in zip(paths, graphs, strict=True):
            flatbuffer.write(graph, path)
        return bench_host(paths, RUNS)


def result_of(graph: Graph, quality: Figures, speed: BenchResult) -> Result:
    """What LiteRT tells of a file."""
    return Result(
        quality,
        speed.bytes,
        speed.value("latency_min", "xnnpack"),
        Counter(cost.kind for cost in speed.op_costs if cost.where == "CPU") if speed.op_costs else None,
        [op.kind for op in graph.ops if any(graph.tensors[t].dtype in FLOATING for t in op.tensors if t >= 0)],
    )


def with_npu(result: Result, graph: Graph) -> Result:
    """The same with what Vela tells; nothing runs on an NPU here. It takes no 4-bit weights."""
    if any(tensor.dtype == "int4" for tensor in graph.tensors):
        return result
    npu = load_target(NPU).npu
    assert npu is not None
    ops = compile_model(flatbuffer.to_bytes(graph), npu).ops
    left = Counter(op.kind for op in ops if op.where != "NPU")
    return replace(result, on_npu=(len(ops) - left.total(), len(ops)), npu_cpu=left)


def show_results(title: str, exact: Result, found: Mapping[str, Result]) -> None:
    """Prints the tables of one network: quality, and what it costs."""
    results = {"float": exact, **found}
    show_figures(title, {label: r.quality for label, r in results.items()})
    show_costs(results)


def show_costs(results: Mapping[str, Result]) -> None:
    """Prints what files cost, beside the one called float."""
    exact = results["float"]
    rows = [
        (
            label,
            f"{r.bytes:,}",
            f"{r.bytes / exact.bytes:.3f}",
            f"{1e3 * r.latency:.3f}",
            f"{r.latency / exact.latency:.2f}",
            "unknown" if r.undelegated is None else str(sum(r.undelegated.values())),
            "{} of {}".format(*r.on_npu) if r.on_npu else "",
        )
        for label, r in results.items()
    ]
    header = ("", "bytes", "ratio", "ms", "ratio", "not XNNPACK's", "ops on NPU")
    show(f"size; least latency with XNNPACK, 1 thread; Vela for {NPU}", header, rows)


def show_left(name: str, found: Mapping[str, Result]) -> None:
    """Prints which ops XNNPACK and Vela do not take; a table would cut the longer lists."""
    for label, r in found.items():
        if r.undelegated is not None:
            print(f"{name}, {label}: not XNNPACK's: {counted(r.undelegated)}")
        if r.npu_cpu is not None:
            print(f"{name}, {label}: not on {NPU}: {counted(r.npu_cpu)}")


def counted(kinds: Mapping[str, int]) -> str:
    """Kinds with their numbers, the most frequent first."""
    return ", ".join(f"{number} {kind}" for kind, number in Counter(kinds).most_common()) or "none"


def required(name: str, variant: Variant, found: Result, exact: Result) -> Iterator[Requirement]:
    """What a file must show; what it need not show is left out."""
    what = f"{name}, {variant.label}"
    yield equal(f"{what}: ops left in float", len(found.floating), 0)
    if variant.accuracy < 1:
        yield at_least(f"{what}: accuracy", found.quality.accuracy, exact.quality.accuracy - variant.accuracy)
    if variant.agreement > 0:
        yield at_least(f"{what}: same top-1 as float", found.quality.agreement, variant.agreement)
    if variant.sqnr > 0:
        yield at_least(f"{what}: output SQNR, dB", found.quality.sqnr, variant.sqnr, "{:.2f}")
    if variant.precision == "w8a8":
        yield at_most(f"{what}: bytes by those of the float file", found.bytes / exact.bytes, 0.27, "{:.3f}")
    if variant.recipe == "int8-only":
        yield at_most(f"{what}: latency by that of the float file", found.latency / exact.latency, 1.0, "{:.2f}")


if __name__ == "__main__":
    main()
