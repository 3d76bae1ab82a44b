"""A model in a browser's LiteRT.js (WebAssembly with XNNPACK), in Chromium without a window."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeqwt.benchmark.describe import of_model, read_model, this_machine
from edgeqwt.benchmark.host import HostSettings
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.benchmark.result import MEASURED, BenchResult, Check, Figure
from edgeqwt.errors import ToolError
from edgeqwt.extras import versions_of
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.web.chromium import Page, browser
from edgeqwt.web.litertjs import LiteRtJs
from edgeqwt.web.page import for_browser, page_files, ports
from edgeqwt.web.server import Server

KERNELS = "xnnpack"
PATIENCE = 120.0  # seconds beside those of the runs


@dataclass(frozen=True)
class _Model:
    fields: dict[str, object]
    graph: Graph
    inputs: Mapping[int, Array]
    expected: Sequence[Array]


def bench_browser(paths: Sequence[Path], runtime: LiteRtJs, settings: HostSettings) -> tuple[BenchResult, ...]:
    """Measures models side by side in one page, and compares their integers with XNNPACK's on this machine.

    Of the settings it takes the seconds of each model, the seed, and the runs: batches in which the clock is read once.

    Raises:
        InputError: a file is no model.
        ToolError: there is no browser, or LiteRT.js refuses a model.
    """
    models = [_model(path, settings.seed) for path in paths]
    files: dict[str, bytes | Path] = {**page_files("bench", runtime)}
    entries = [_entry(k, model, files) for k, model in enumerate(models)]
    limits = {"runs": settings.runs, "milliseconds": settings.seconds * 500}  # two rounds
    files["job.json"] = json.dumps({"accelerator": "wasm", "models": entries, **limits}).encode()
    with Server(files) as server, browser() as page:
        page.open(f"http://{server.host}:{server.port}/")
        page.wait("window.found !== undefined", PATIENCE + settings.seconds * len(models))
        found = page.value("window.found")
        outside = _outside(page, f"http://{server.host}:{server.port}/")
    if "error" in found:
        raise ToolError("LiteRT.js", 1, "\n".join([found["error"], *page.problems]), "Does `--on host` run it?")
    return tuple(
        _result(model, one, found["agent"], outside, runtime, settings)
        for model, one in zip(models, found["models"], strict=True)
    )


def _model(path: Path, seed: int) -> _Model:
    data, graph = read_model(path)
    (inputs,) = random_inputs(graph, 1, seed)
    found = RUNNERS[KERNELS](graph).run(inputs)
    return _Model(of_model(path, data, graph), graph, inputs, [found[t].copy() for t in graph.outputs])


def _entry(k: int, model: _Model, files: dict[str, bytes | Path]) -> dict[str, Any]:
    """What the page gets of a model, whose files are added."""
    names: dict[str, list[str]] = {"inputs": [], "outputs": []}
    arrays = {"inputs": [model.inputs[t] for t in model.graph.inputs], "outputs": model.expected}
    for kind, values in arrays.items():
        for i, array in enumerate(values):
            name = f"{k}_{kind}_{i}.bin"
            files[name] = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            names[kind].append(name)
    files[f"{k}.tflite"] = for_browser(model.graph)
    return {"file": f"{k}.tflite", "ports": ports(model.graph), **names}


def _outside(page: Page, address: str) -> list[str]:
    return [url for url in page.requests if not url.startswith((address, "blob:", "data:"))]


def _result(
    model: _Model,
    found: Mapping[str, Any],
    agent: str,
    outside: list[str],
    runtime: LiteRtJs,
    settings: HostSettings,
) -> BenchResult:
    latencies = {"latency_min": found["min"], "latency_median": found["median"], "latency_p90": found["p90"]}
    figures = [Figure(name, KERNELS, value / 1000, "s") for name, value in latencies.items()]
    figures += [
        Figure("runs", KERNELS, found["runs"], "runs"),
        Figure("load_first", KERNELS, found["load"] / 1000, "s"),
    ]
    integer = any(not model.graph.tensors[t].is_float for t in model.graph.outputs)
    return BenchResult(
        **model.fields,  # type: ignore[arg-type]
        where="browser",
        evidence=MEASURED,
        figures=tuple(figures),
        checks=(
            *(_agreement(found["differences"]) if integer else ()),
            Check("nothing is loaded from elsewhere", not outside, ", ".join(outside) or "no request left it"),
        ),
        notes=(
            "Read the minimum: other programs can only make a run slower.",
            "LiteRT.js takes float inputs and outputs: an integer file has QUANTIZE and DEQUANTIZE around it here.",
        ),
        settings={
            "accelerator": "WebAssembly, one thread",
            "seconds at most": f"{settings.seconds:g}",
            "inputs": f"random, seed {settings.seed}",
        },
        versions={**versions_of("edgeqwt", "ai-edge-litert"), "LiteRT.js": runtime.version, "browser": agent},
        machine=this_machine(),
    )


def _agreement(differences: Sequence[Mapping[str, Any]]) -> tuple[Check, ...]:
    """Whether the integers of the outputs are those of XNNPACK here, one step at most where its kernels round apart."""
    elements, differing = (sum(d[key] for d in differences) for key in ("elements", "differing"))
    largest = max((d["largest"] for d in differences), default=0)
    detail = f"{differing} of {elements} differ, by {largest:g} steps at most" if differing else f"all {elements} equal"
    return (Check("outputs are those of XNNPACK on this machine, within one step", largest <= 1, detail),)
