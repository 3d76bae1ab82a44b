"""Arm's Ethos-U: what Vela, its compiler, estimates. Nothing runs on an NPU here."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.benchmark.describe import of_model, read_model, this_machine
from edgeqwt.benchmark.result import ESTIMATED, NOT_ON_HARDWARE, BenchResult, Check, Figure, OpCost
from edgeqwt.errors import listed
from edgeqwt.extras import versions_of
from edgeqwt.profile import Npu
from edgeqwt.runtime.vela import Compiled, compile_model


def bench_ethos_u(path: Path, npu: Npu) -> BenchResult:
    """Estimates a model with Vela.

    Raises:
        InputError: no model.
        UnsupportedError: the model holds what crashes Vela.
        ToolError: Vela is missing or fails.
    """
    data, graph = read_model(path)
    found = compile_model(data, npu)
    return BenchResult(
        **of_model(path, data, graph),
        where=npu.accelerator,
        evidence=ESTIMATED,
        figures=_figures(found),
        op_costs=tuple(OpCost(op.kind, op.name, op.where, op.cycles, "cycles") for op in found.ops),
        checks=(_placed(found),),
        notes=(
            f"Vela's estimate for the NPU at {found.clock / 1e6:g} MHz; the CPU's ops are not in it.",
            f"An estimate, {NOT_ON_HARDWARE}.",
        ),
        settings={"system_config": npu.system_config, "memory_mode": npu.memory_mode},
        versions=versions_of("edgeqwt", "ethos-u-vela"),
        machine=this_machine(),
    )


NAMED = 5  # ops on the CPU that the check names; op_costs has all


def _figures(found: Compiled) -> tuple[Figure, ...]:
    return (
        *(Figure(f"cycles_{name}", "", value, "cycles") for name, value in found.cycles.items()),
        Figure("latency", "", found.seconds, "s"),
        *(Figure(f"memory_{name}", "", value, "B") for name, value in found.memory.items()),
        Figure("compiled_file", "", len(found.model), "B"),
        Figure("macs", "", found.macs, "MAC"),
    )


def _placed(found: Compiled) -> Check:
    on_cpu = [f"{op.kind} {op.name[-40:]!r}" for op in found.ops if op.where != "NPU"]
    detail = f"{len(found.ops) - len(on_cpu)} of {len(found.ops)} ops on the NPU"
    if on_cpu:
        detail += f"; on the CPU: {listed(on_cpu, NAMED)}; `edgeqwt check` says why"
    return Check("every op runs on the NPU", not on_cpu, detail)
