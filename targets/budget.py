"""What a model costs on its target; does it cost more than it may, and which ops cost most?"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from edgeqwt.errors import TargetError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Graph, Tensor
from edgeqwt.target import Budget, TargetProfile
from edgeqwt.targets.package.ethos_u import compiled_for
from edgeqwt.targets.package.memory import measured_arena
from edgeqwt.targets.package.stripped import stripped

NAMED = 3
"""How many ops a message names."""

Costs = Mapping[str, Mapping[str, float]]
"""By "ram", "flash" and "cycles": what each op costs, by how messages name it."""


@dataclass(frozen=True)
class Spent:
    """What a model costs; None where nothing here can tell.

    Attributes:
        ram: bytes that are written at run time.
        flash: bytes of the model as its package stores it.
        cycles: of one inference, as the NPU's compiler estimates them.
        by_op: see `costs`.
    """

    ram: int | None
    flash: int | None
    cycles: float | None
    by_op: Costs


def spent(graph: Graph, profile: TargetProfile) -> Spent:
    """What an integer graph costs on a target: measured in TFLite Micro, or estimated by Vela.

    Raises:
        InterpreterError: TFLite Micro refuses the model.
        UnsupportedError: Vela would crash on it.
        ToolError: Vela fails.
    """
    if profile.npu is not None:
        compiled = compiled_for(graph, profile)
        memory = int(sum(compiled.memory[name] for name in ("sram", "dram")))
        cycles = {f"{op.kind} {op.name}": op.cycles for op in compiled.ops}
        return Spent(memory, len(compiled.model), compiled.cycles["total"], costs(graph, cycles))
    if profile.package == "tflm":
        size = len(flatbuffer.to_bytes(stripped(graph)))
        return Spent(measured_arena(graph).size, size, None, costs(graph))
    return Spent(None, len(flatbuffer.to_bytes(graph)), None, costs(graph))


def require(graph: Graph, profile: TargetProfile, budget: Budget) -> None:
    """Stops where a model costs more than it may.

    Raises:
        TargetError: with the figures and the ops that cost most; else as `spent`.
    """
    if budget == Budget():
        return
    found = spent(graph, profile)
    told = over(budget, found.ram, found.flash, found.cycles, found.by_op)
    if told is not None:
        hint = "Allow more, or make the model smaller where most of it goes: fewer channels, a smaller input."
        raise TargetError(f"the model is over its budget on {profile.name}. {told}", hint)


def over(budget: Budget, ram: int | None, flash: int | None, cycles: float | None, costs_by_op: Costs) -> str | None:
    """What exceeds a budget, or None.

    Args:
        budget: the limits.
        ram: bytes of the arena, or of the memory that an NPU writes; None: not known.
        flash: bytes of the model as it is stored; None: not known.
        cycles: of one inference; None: not known. A limit on what is not known is exceeded: nothing shows
            that it is kept.
        costs_by_op: see `costs`; a figure that is missing there is reported without ops.
    """
    limits = {"ram": budget.ram, "flash": budget.flash, "cycles": budget.cycles}
    figures = {"ram": ram, "flash": flash, "cycles": cycles}
    parts = [
        _sentence(name, figures[name], limit, costs_by_op.get(name, {}))
        for name, limit in limits.items()
        if limit is not None and not _kept(figures[name], limit)
    ]
    return " ".join(parts) or None


def costs(graph: Graph, cycles: Mapping[str, float] | None = None) -> Costs:
    """What each op costs, as far as the graph tells.

    Returns:
        "ram": bytes of the activations that the op reads and writes, which are alive together while it
        runs; "flash": bytes of its constants; "cycles" as given.
    """
    ram, flash = {}, {}
    for i, op in enumerate(graph.ops):
        used = [graph.tensors[t] for t in dict.fromkeys(op.tensors)]
        ram[graph.describe(i)] = float(sum(_stored(t) for t in used if not t.is_constant))
        flash[graph.describe(i)] = float(sum(_stored(t) for t in used if t.is_constant))
    return {"ram": ram, "flash": flash, "cycles": cycles or {}}


def _stored(tensor: Tensor) -> int:
    """Bytes of a tensor; two 4-bit integers share one."""
    if tensor.dtype == "int4":
        return -(-tensor.size // 2)
    return tensor.size * (DTYPES[tensor.dtype]().itemsize if tensor.dtype in DTYPES else 1)


def _kept(figure: float | None, limit: int) -> bool:
    return figure is not None and figure <= limit


def _sentence(name: str, figure: float | None, limit: int, ops: Mapping[str, float]) -> str:
    what = {"ram": "RAM", "flash": "Flash", "cycles": "Cycles"}[name]
    unit = "" if name == "cycles" else " bytes"
    if figure is None:
        return f"{what}: the limit is {limit:,}{unit}, and nothing here can tell the figure for this target."
    sentence = f"{what}: {figure:,.0f}{unit}, the limit is {limit:,} ({figure / max(limit, 1):.2f} times as much)."
    most = heapq.nlargest(NAMED, ((cost, op) for op, cost in ops.items() if cost > 0))
    named = ", ".join(f"{op} ({cost:,.0f})" for cost, op in most)
    return f"{sentence} Most of it: {named}." if named else sentence
