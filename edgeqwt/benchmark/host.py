"""LiteRT on this machine: latency, load time and peak memory, with XNNPACK and with the reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeqwt.benchmark import host_tasks
from edgeqwt.benchmark.describe import of_model, read_model, this_machine
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.benchmark.litert_profile import op_times
from edgeqwt.benchmark.result import MEASURED, BenchResult, Figure, OpCost
from edgeqwt.extras import versions_of
from edgeqwt.runtime.child import in_child
from edgeqwt.runtime.runners import InterpreterError

KERNELS = ("xnnpack", "reference")


@dataclass(frozen=True)
class HostSettings:
    """How to measure.

    Attributes:
        runs: of each model with each family of kernels.
        seconds: at most for the runs of one family; slow models run fewer times, five at least.
        threads: of the interpreter.
        kernels: which families.
        seed: of the random input.
        profile: whether to ask for the time of each op.
    """

    runs: int = 100
    seconds: float = 20.0
    threads: int = 1
    kernels: tuple[str, ...] = KERNELS
    seed: int = 0
    profile: bool = True


@dataclass(frozen=True)
class _Model:
    path: Path
    fields: dict[str, object]
    inputs: host_tasks.Inputs


def bench_host(paths: Sequence[Path], settings: HostSettings | None = None) -> tuple[BenchResult, ...]:
    """Measures models side by side: their runs take turns, so their latencies can be compared.

    Raises:
        InputError: a file is no model.
        InterpreterError: LiteRT's default kernels refuse a model. Where only its reference kernels do, which
            lack some ops, they are left out and a note says why.
    """
    settings = settings or HostSettings()
    models = [_model(path, settings.seed) for path in paths]
    figures: list[list[Figure]] = [[] for _ in models]
    notes: list[str] = []
    for kernels in settings.kernels:
        try:
            found = _measured(models, kernels, settings)
        except InterpreterError as error:
            if kernels != "reference" or len(settings.kernels) == 1:
                raise
            notes.append(f"Not measured with {kernels} kernels: {error.message}")
            continue
        for own, more in zip(figures, found, strict=True):
            own += more
    return tuple(_result(model, own, notes, settings) for model, own in zip(models, figures, strict=True))


def _model(path: Path, seed: int) -> _Model:
    data, graph = read_model(path)
    (inputs,) = random_inputs(graph, 1, seed)
    return _Model(path, of_model(path, data, graph), inputs)


def _measured(models: Sequence[_Model], kernels: str, settings: HostSettings) -> list[list[Figure]]:
    loads = [in_child(host_tasks.loading, str(m.path), kernels, settings.threads, m.inputs) for m in models]
    runs = in_child(
        host_tasks.latencies,
        [str(m.path) for m in models],
        kernels,
        settings.threads,
        [m.inputs for m in models],
        settings.runs,
        settings.seconds,
    )
    return [_figures(kernels, load, seconds) for load, seconds in zip(loads, runs, strict=True)]


def _figures(kernels: str, load: host_tasks.Loading, seconds: Sequence[float]) -> list[Figure]:
    found = [
        Figure("latency_min", kernels, min(seconds), "s"),
        Figure("latency_median", kernels, float(np.median(seconds)), "s"),
        Figure("latency_p90", kernels, float(np.percentile(seconds, 90)), "s"),
        Figure("runs", kernels, len(seconds), "runs"),
        Figure("load_first", kernels, load.seconds[0], "s"),
        Figure("load_min", kernels, min(load.seconds), "s"),
    ]
    memory = {"memory_model_peak": load.model_peak, "memory_process_peak": load.process_peak}
    return found + [Figure(name, kernels, value, "B") for name, value in memory.items() if value is not None]


def _result(model: _Model, figures: Sequence[Figure], notes: Sequence[str], settings: HostSettings) -> BenchResult:
    costs, why_not = _profile(model, settings)
    return BenchResult(
        **model.fields,  # type: ignore[arg-type]
        where="host",
        evidence=MEASURED,
        figures=tuple(figures),
        op_costs=costs,
        notes=(
            "Read the minimum: other programs can only make a run slower.",
            *(
                ["The time of each op is the mean of the quicker half of 50 runs, rounded down to microseconds."]
                if costs
                else []
            ),
            *why_not,
            *notes,
        ),
        settings={
            "threads": str(settings.threads),
            "runs at most": str(settings.runs),
            "seconds at most": f"{settings.seconds:g}",
            "inputs": f"random, seed {settings.seed}",
        },
        versions=versions_of("edgeqwt", "ai-edge-litert", "numpy"),
        machine=this_machine(),
    )


def _profile(model: _Model, settings: HostSettings) -> tuple[tuple[OpCost, ...], list[str]]:
    """Time per op with the default kernels, or why there is none: LiteRT's profiler has no stable interface."""
    if not settings.profile or "xnnpack" not in settings.kernels:
        return (), []
    try:
        found: list[OpCost] = in_child(op_times, str(model.path))
    except InterpreterError as error:
        return (), [f"No time per op: {error.message.partition(';')[0]}"]  # what follows is LiteRT's log
    return tuple(found), []
