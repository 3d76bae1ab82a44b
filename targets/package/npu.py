"""The package for an NPU that a vendor's plugin of LiteRT compiles for: the compiled file and the portable one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeqwt.errors import InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.output import markdown
from edgeqwt.profile import Plugin, TargetProfile
from edgeqwt.runtime.qualcomm import Compiled
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.interface import write_interface
from edgeqwt.target.package.templates import rendered
from edgeqwt.target.package.vectors import RUNTIME_TITLES, Vectors
from edgeqwt.target.plugin import compiled_for, placement

MODEL = "model.tflite"


def write(graph: Graph, profile: TargetProfile, folder: Path, vectors: Vectors, details: Details) -> tuple[str, ...]:
    """Writes README.md, model.tflite, npu.json, io.json, vectors/, and the compiled file where the compiler is there.

    Args:
        graph: the integer model.
        profile: of the NPU.
        folder: exists.
        vectors: expected outputs of LiteRT.
        details: of the source model.

    Returns:
        Sentences that the user must see: what the NPU runs, or that nothing was compiled.

    Raises:
        ToolError: the compiler is there, and fails.
    """
    plugin = profile.plugin
    if plugin is None:
        raise InvariantError(f"target {profile.name} has the package npu, but no plugin")
    compiled = None if plugin.toolchain is None else compiled_for(graph, profile)
    size = flatbuffer.write(graph, folder / MODEL)
    name = f"model_{plugin.soc}.tflite"
    if compiled is not None and compiled.model:
        (folder / name).write_bytes(compiled.model)
    text = json.dumps(_facts(plugin, compiled, name), indent=2, allow_nan=False)
    (folder / "npu.json").write_text(text + "\n", encoding="utf-8")
    write_interface(graph, details, vectors, folder, MODEL)
    sentence = (
        f"Nothing was compiled for the NPU: {plugin.vendor}'s compiler is not installed. {plugin.missing}"
        if compiled is None
        else placement(compiled)
    )
    values = {
        "origin": markdown(details.origin) or "The model's origin is not known.",
        "size": str(size),
        "compiled": name if compiled is not None and compiled.model else "(no compiled file)",
        "soc": plugin.soc,
        "vendor": plugin.vendor,
        "placement": markdown(sentence),
        "count": str(len(vectors.items)),
        "runtime": RUNTIME_TITLES[vectors.runtime],
    }
    (folder / "README.md").write_text(rendered("npu/README.md", values), encoding="utf-8")
    return (sentence,)


def _facts(plugin: Plugin, compiled: Compiled | None, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "schema": "edgeqwt.npu",
        "version": 1,
        "vendor": plugin.vendor,
        "soc": plugin.soc,
        "portable": MODEL,
        "compiled": None,
        "ops": None,
        "partitions": None,
        "on_cpu": [],
        "compiler": dict(() if plugin.toolchain is None else plugin.toolchain.versions),
    }
    if compiled is not None:
        facts |= {
            "compiled": name if compiled.model else None,
            "ops": compiled.ops,
            "partitions": compiled.partitions,
            "on_cpu": [{"op": left.op, "kind": left.kind, "tensor": left.tensor} for left in compiled.left],
        }
    return facts
