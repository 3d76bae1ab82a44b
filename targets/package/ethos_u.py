"""The package for Arm Ethos-U NPUs: what Vela made of the model, its C++ component and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeqwt.errors import InvariantError, short
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.output import markdown_code
from edgeqwt.profile import Npu, TargetProfile
from edgeqwt.runtime.vela import Compiled, Placement, compile_model
from edgeqwt.target.package import sources
from edgeqwt.target.package.compiled import contents
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.interface import write_interface
from edgeqwt.target.package.memory import compiled_arena
from edgeqwt.target.package.resolver import methods_of_kinds
from edgeqwt.target.package.templates import rendered, write_tree
from edgeqwt.target.package.vectors import Vectors

MODEL = "model_vela.tflite"


def write(
    graph: Graph, profile: TargetProfile, folder: Path, vectors: Vectors, details: Details, compiled: Compiled
) -> tuple[str, ...]:
    """Writes README.md, summary.json, vela.log, io.json, vectors/, model_vela.tflite and the C++ component.

    Args:
        graph: the model before Vela.
        profile: of the NPU.
        folder: exists.
        vectors: expected outputs of the model before Vela.
        details: of the source model.
        compiled: of `graph`, for the profile's NPU.

    Returns:
        Sentences that the user must see: which ops run on the CPU.

    Raises:
        UnsupportedError: TFLite Micro has no kernel for an op that Vela leaves to the CPU.
    """
    npu = _npu(profile)
    found = contents(compiled.model)
    resolver = methods_of_kinds(found.ops, profile.name)
    values = sources.values(compiled.model, graph, details, vectors, resolver, compiled_arena(found))
    (folder / MODEL).write_bytes(compiled.model)
    (folder / "vela.log").write_text(compiled.log, encoding="utf-8")
    _write_json(folder / "summary.json", summary(compiled, npu))
    write_interface(graph, details, vectors, folder, MODEL)
    readme = rendered("ethos_u/README.md", {**values, **_figures(compiled, npu)})
    (folder / "README.md").write_text(readme, encoding="utf-8")
    write_tree("component", folder / details.name, values)
    return (placement_sentence(compiled.ops), estimate_sentence(compiled))


def compiled_for(graph: Graph, profile: TargetProfile) -> Compiled:
    """The graph through Vela.

    Raises:
        UnsupportedError: what crashes Vela.
        ToolError: Vela is not installed, or fails.
    """
    return compile_model(flatbuffer.to_bytes(graph), _npu(profile))


def summary(compiled: Compiled, npu: Npu) -> dict[str, Any]:
    """Vela's figures as what JSON can hold."""
    return {
        "schema": "edgeqwt.ethos-u",
        "version": 1,
        "estimated_by": "Vela; not measured on an NPU",
        "accelerator": npu.accelerator,
        "system_config": npu.system_config,
        "memory_mode": npu.memory_mode,
        "cycles": dict(compiled.cycles),
        "seconds": compiled.seconds,
        "clock_hz": compiled.clock,
        "memory_bytes": dict(compiled.memory),
        "macs": compiled.macs,
        "ops": [{"kind": op.kind, "name": op.name, "where": op.where, "cycles": op.cycles} for op in compiled.ops],
    }


def placement_sentence(ops: tuple[Placement, ...]) -> str:
    """Which ops the NPU does not run."""
    left = [f"{op.kind} {short(op.name)!r}" for op in ops if op.where != "NPU"]
    if not left:
        return f"All {len(ops)} ops run on the NPU."
    return f"{len(left)} of {len(ops)} ops run on the CPU, which no figure here counts: {', '.join(left)}."


def estimate_sentence(compiled: Compiled) -> str:
    """What Vela estimates of one inference."""
    memory = {name: int(compiled.memory[name]) for name in ("sram", "dram")}
    written = " and ".join(f"{count:,} bytes of {name.upper()}" for name, count in memory.items() if count)
    return (
        f"Vela estimates {compiled.cycles['total']:,.0f} cycles, {compiled.seconds * 1e3:.3f} ms at "
        f"{compiled.clock / 1e6:g} MHz, with {written or 'no memory'}; not verified on hardware."
    )


def _figures(compiled: Compiled, npu: Npu) -> dict[str, str]:
    memory = compiled.memory
    rows = (f"| {op.where} | {op.kind} | `{markdown_code(op.name)}` | {op.cycles:,.0f} |" for op in compiled.ops)
    return {
        "accelerator": npu.accelerator,
        "system_config": npu.system_config,
        "memory_mode": npu.memory_mode,
        "placement": placement_sentence(compiled.ops),
        "cycles": f"{compiled.cycles['total']:,.0f}",
        "milliseconds": f"{1000 * compiled.seconds:.3f}",
        "megahertz": f"{compiled.clock / 1e6:.0f}",
        "sram": f"{memory['sram']:,.0f}",
        "dram": f"{memory['dram']:,.0f}",
        "flash": f"{memory['on_chip_flash'] + memory['off_chip_flash']:,.0f}",
        "op_table": "\n".join(("| where | op | output | cycles |", "|---|---|---|---:|", *rows)),
    }


def _npu(profile: TargetProfile) -> Npu:
    if profile.npu is None:
        raise InvariantError(f"target {profile.name} has the package ethos-u, but no NPU")
    return profile.npu


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
