"""Small models as people bring them (../shared/field): each through one command, judged on samples it never saw."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Array, Requirement, finish, shared, show

from edgeqwt.graph import flatbuffer
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import xnnpack

FINE_DB = 25.0
CALIBRATION, FRESH = (64, 1), (64, 7)  # samples and seeds
NAMED = re.compile(r"Build with (.+?): -?[\d.]+(?: ± [\d.]+)? dB")
"""How a build's message begins that names a remedy which was enough when it was tried."""


@dataclass(frozen=True)
class Case:
    """What came of one model.

    Attributes:
        name: of its folder.
        options: of the command beside the recipe: what the build itself named where its first result is refused, or
            less than fine.
        parts: dB of what varies, per output and part of one; empty where there is no file.
        seconds: of the last build.
        message: what stopped it.
        first: the worst part without options; minus infinity where nothing was written.
    """

    name: str
    options: str
    parts: Mapping[str, float]
    seconds: float
    message: str = ""
    first: float = float("-inf")

    @property
    def worst(self) -> float:
        """dB of the worst part; minus infinity where there is no file."""
        return min(self.parts.values(), default=float("-inf"))


def main() -> None:
    """Builds the models of all folders, or of those named, and says which reach what users expect."""
    parser = argparse.ArgumentParser(prog="field", description=__doc__)
    parser.add_argument("folders", nargs="*", help="beginnings of their names; all by default")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seconds", type=int, default=900, help="that one build may take")
    options = parser.parse_args()
    folder = shared() / "field"
    found = [path for path in sorted(folder.iterdir()) if (path / "model.py").is_file()]
    chosen = [path for path in found if not options.folders or path.name.startswith(tuple(options.folders))]
    cases = []
    for path in chosen:
        cases.append(case(path, options.recipe, options.seconds))
        print(_line(cases[-1]), flush=True)
    show(
        "Field cases",
        ("", "by default, dB", "options that it names", "what varies with them, dB", "seconds"),
        [(c.name, f"{c.first:.1f}", c.options, _parts(c), f"{c.seconds:.0f}") for c in cases],
    )
    finish([Requirement(c.name, f">= {FINE_DB:.1f} dB", f"{c.worst:.1f} dB", c.worst >= FINE_DB) for c in cases])


def case(source: Path, recipe: str, seconds: int) -> Case:
    """Builds a model as it lies there, once more with what the build names if that refuses its result, and measures."""
    with tempfile.TemporaryDirectory(prefix="field") as scratch:
        work = Path(scratch)
        for path in (*source.glob("*.py"), *source.parent.glob("*.py")):
            shutil.copy(path, work)
        sys.path.insert(0, str(work))
        for name in ("model", "field_common"):
            sys.modules.pop(name, None)
        try:
            model = _module(work / "model.py")
            np.savez(work / "calibration.npz", **model.samples(*CALIBRATION))
            taken, message, named = _built(work, recipe, "", seconds)
            parts = {} if message else measured(model, work / "out")
            first = min(parts.values(), default=float("-inf"))
            if first >= FINE_DB or not named:
                return Case(source.name, "", parts, taken, message, first)
            taken, message, _ = _built(work, recipe, named, seconds)
            parts = {} if message else measured(model, work / "out")
        finally:
            sys.path.remove(str(work))
    return Case(source.name, named, parts, taken, message, first)


def _built(work: Path, recipe: str, named: str, seconds: int) -> tuple[float, str, str]:
    """Seconds of a build, what stopped it, and the options that it names then."""
    command = [sys.executable, "-m", "edgeqwt", "build", "model.py:create", "-c", "calibration.npz", "-o", "out"]
    command += ["--recipe", recipe, "--overwrite", *shlex.split(named)]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return float(seconds), f"more than {seconds} s", ""
    said = " ".join(done.stderr[done.stderr.find("error:") :].split())
    remedy = NAMED.search(said if done.returncode else " ".join(done.stdout.split()))
    return time.perf_counter() - start, said if done.returncode else "", remedy[1] if remedy else ""


def measured(model: Any, out: Path) -> dict[str, float]:
    """dB of what varies that a file has on fresh samples, per output and part of one that the folder names."""
    import torch

    net, fresh = model.create(), model.samples(*FRESH)
    rows = [[value[k : k + 1] for value in fresh.values()] for k in range(FRESH[0])]
    with torch.no_grad():
        found = [net(*(torch.as_tensor(value) for value in row)) for row in rows]
    wanted = [[t.numpy() for t in (y if isinstance(y, list | tuple) else (y,))] for y in found]
    run = _runner(out)
    got = [run(row) for row in rows]
    result: dict[str, float] = {}
    for k in range(len(wanted[0])):
        a, b = (np.stack([y[k] for y in ys]).astype(np.float64) for ys in (wanted, got))
        result[f"output {k}"] = varying_db(a, b.reshape(a.shape))
        named: Mapping[str, Callable[[Array], Array]] = model.parts(k) if hasattr(model, "parts") else {}
        for name, part in named.items():
            result[name] = varying_db(np.stack([part(x) for x in a]), np.stack([part(x) for x in b.reshape(a.shape)]))
    return result


def varying_db(wanted: Array, got: Array) -> float:
    """SQNR of what varies over the first axis, in dB."""
    noise, varying = np.square(wanted - got).sum(), np.square(wanted - wanted.mean(axis=0)).sum()
    return float(10 * np.log10(varying / noise)) if noise else float("inf")


def _runner(out: Path) -> Callable[[Sequence[Array]], list[Array]]:
    """Runs the file of an output folder on the source model's inputs, and joins what was split."""
    io = json.loads((out / "package" / "io.json").read_text("utf-8"))
    graph = flatbuffer.read(out / "model.tflite")
    runner = xnnpack(graph)

    def run(row: Sequence[Array]) -> list[Array]:
        feed = {}
        for t, port, value in zip(graph.inputs, io["inputs"], row, strict=True):
            source, order = port["source"], port["source"]["permutation"]
            value = (value if order is None else value.transpose(order)).reshape(graph.tensors[t].shape)
            feed[t] = _taken(value, source)
        values, found = runner.run(graph_feed(graph, feed)), {}
        for t, port in zip(graph.outputs, io["outputs"], strict=True):
            value, order = to_real(graph, t, values[t]), port["source"]["permutation"]
            found[port["name"]] = value if order is None else value.transpose(np.argsort(order))
        for joined in io.get("joined") or ():
            parts = [found.pop(name) for name in joined["parts"]]
            found[joined["name"]] = np.concatenate(parts, joined["axis"])
        return [*found.values()]

    return run


def _taken(value: Array, source: Mapping[str, Any]) -> Array:
    """What the application feeds where the file normalizes by itself, or --standardize has it take (x - mean) / std."""
    if source["factor"] is None:
        return value
    axis = [-1 if k == source["axis"] else 1 for k in range(value.ndim)]
    factor, shift = (np.reshape(source[key], axis) for key in ("factor", "shift"))
    return np.asarray((value - shift) / factor, np.float32)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parts(found: Case) -> str:
    return ", ".join(f"{name} {db:.1f}" for name, db in found.parts.items()) or found.message[:200]


def _line(found: Case) -> str:
    return f"{found.name:28} {found.first:5.1f} dB {found.options:44} {found.seconds:5.0f} s  {_parts(found)}"


if __name__ == "__main__":
    main()
