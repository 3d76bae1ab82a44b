"""TFLite Micro on this machine: the arena, and whether it computes what LiteRT's reference kernels compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edgeqwt.benchmark.describe import of_model, read_model, this_machine
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.benchmark.result import MEASURED, NOT_ON_HARDWARE, BenchResult, Check, Figure, OpDifference
from edgeqwt.extras import versions_of
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.arena import Arena, measure_arena
from edgeqwt.runtime.runners import InterpreterError
from edgeqwt.verify.bitexact import BitExactness, compare_runtimes

SAMPLES = 16
"""Random samples where none are given."""
SamplesOf = Callable[[Graph], Iterable[Mapping[int, Array]]]
"""Makes a model's samples: inputs by the graph's tensor index, real values or integers."""


def bench_tflm(path: Path, samples: SamplesOf | None = None, seed: int = 0) -> BenchResult:
    """Measures a model in the interpreter of the tflite-micro package.

    Args:
        path: a .tflite file.
        samples: None: SAMPLES random ones.
        seed: of the random ones.

    Raises:
        InputError: no model, or no samples.
        ToolError: TFLite Micro or LiteRT refuses the model; its own words are in the message.
    """
    data, graph = read_model(path)
    try:
        arena = measure_arena(data)  # first: it tells in one line what TFLite Micro lacks
    except InterpreterError as error:
        error.hint = (
            f"`edgeqwt check {path} --target tflm` says why; where it offers a fix, --fix -o OUT.tflite applies it."
        )
        raise
    given = "given" if samples is not None else f"random, seed {seed}"
    inputs = random_inputs(graph, SAMPLES, seed) if samples is None else samples(graph)
    found = compare_runtimes(graph, inputs, threads=1)
    return BenchResult(
        **of_model(path, data, graph),
        where="tflm",
        evidence=MEASURED,
        figures=_figures(arena),
        checks=(_check(found),),
        differences=tuple(
            OpDifference(d.kind, d.op, d.tensor, d.elements, d.differing, d.largest, d.known) for d in found.differences
        ),
        notes=(
            "The arena was measured with 64-bit pointers; arena_32_bit is computed from it for a Cortex-M.",
            f"TFLite Micro's own kernels, compiled for this machine; {NOT_ON_HARDWARE}.",
        ),
        settings={"samples": str(found.samples), "inputs": given},
        versions=versions_of("edgeqwt", "tflite-micro", "ai-edge-litert"),
        machine=this_machine(),
    )


def _figures(arena: Arena) -> tuple[Figure, ...]:
    sizes = {
        "arena": arena.bytes,
        "arena_32_bit": arena.bytes32,
        "arena_head": arena.printed["head"],
        "arena_tail": arena.printed["tail"],
    }
    return tuple(Figure(name, "tflm", size, "B") for name, size in sizes.items())


def _check(found: BitExactness) -> Check:
    name = "every op's output has the same bytes as LiteRT's reference kernels give"
    compared = f"{found.elements:,} values of {found.ops} ops in {found.samples} samples"
    if found.unavailable is not None:
        return Check(name, False, f"not compared: {found.unavailable}")
    if not found.differences:
        return Check(name, True, compared)
    named = ", ".join(f"{d.kind} #{d.op} ({d.differing:,} by at most {d.largest:g})" for d in found.differences)
    known = "; known of these ops" if found.ok else ""
    return Check(name, found.ok, f"{compared}; other values in {named}{known}")
