"""What a model costs on its target; does it cost more than it may, and which ops cost most?"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeqwt.errors import InputError, TargetError, short
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import Budget, TargetProfile
from edgeqwt.target import memory
from edgeqwt.target.model import Model, is_float
from edgeqwt.target.package.ethos_u import compiled_for
from edgeqwt.target.package.memory import measured_arena
from edgeqwt.target.package.stripped import stripped
from edgeqwt.target.plugin import compiled_for as compiled_for_plugin
from edgeqwt.target.plugin import placement

NAMED = 3
"""How many ops a message names."""

SMALLER = "Allow more, or make the model smaller where most of it goes: fewer channels, a smaller input."

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
        written = int(sum(compiled.memory[name] for name in ("sram", "dram")))
        cycles = {f"{op.kind} ({short(op.name)})": op.cycles for op in compiled.ops}
        return Spent(written, len(compiled.model), compiled.cycles["total"], costs(graph, cycles))
    if profile.package == "tflm":
        device = stripped(graph)
        return Spent(measured_arena(device).size, len(flatbuffer.to_bytes(device)), None, costs(graph))
    return Spent(None, len(flatbuffer.to_bytes(graph)), None, costs(graph))


def own_board(profile: TargetProfile, budget: Budget) -> TargetProfile:
    """The profile without the limits that a budget sets: they are a typical board's, the budget is the user's.

    Raises:
        InputError: the budget limits what nothing here can tell for the target.
    """
    if budget.cycles is not None and profile.npu is None:
        hint = "Leave it out, or name a target with an NPU, such as ethos-u55-128: its compiler estimates cycles."
        raise InputError(f"nothing here can tell the cycles on {profile.name}, which --max-cycles limits", hint)
    if budget.partitions is not None and (profile.plugin is None or profile.plugin.toolchain is None):
        hint = "Leave it out, or name a target such as qualcomm-sm8650: its compiler cuts the model."
        hint = hint if profile.plugin is None else profile.plugin.missing
        raise InputError(f"nothing here can tell the partitions on {profile.name}, which --max-partitions limits", hint)
    if budget.ram is not None and profile.npu is None and profile.package != "tflm":
        hint = "Leave it out: LiteRT shares the memory of the app that it runs in."
        raise InputError(f"nothing here can tell the RAM on {profile.name}, which --ram limits", hint)
    given = {name for name in ("ram", "flash") if getattr(budget, name) is not None}
    return replace(profile, limits={name: limit for name, limit in profile.limits.items() if name not in given})


def foresee(graph: Graph, profile: TargetProfile, budget: Budget, bits: int) -> None:
    """Stops before the work begins where the activations alone cannot fit the RAM.

    Args:
        graph: float, before quantization.
        profile: the target.
        budget: its RAM counts.
        bits: width that activations will get, 8 or 16.

    Raises:
        TargetError: with the figures and the ops that cost most.
    """
    seen = prepare(graph).graph if is_float(graph) and not graph.others else graph
    model = Model(seen, profile, bits)
    message = over(Budget(ram=budget.ram), memory.peak(model)[0], None, None, costs(seen, bits=bits))
    if message is not None:
        raise TargetError(f"the activations alone are over the budget on {profile.name}. {message}", SMALLER)


def require(graph: Graph, profile: TargetProfile, budget: Budget) -> None:
    """Stops where a model costs more than it may.

    Raises:
        TargetError: with the figures and the ops that cost most; else as `spent`.
    """
    if budget.partitions is not None:
        _require_partitions(graph, profile, budget.partitions)
    if replace(budget, partitions=None) == Budget():
        return
    found = spent(graph, profile)
    message = over(budget, found.ram, found.flash, found.cycles, found.by_op)
    if message is not None:
        raise TargetError(f"the model is over its budget on {profile.name}. {message}", SMALLER)


def _require_partitions(graph: Graph, profile: TargetProfile, limit: int) -> None:
    """Stops where an NPU's compiler cuts a model into more pieces than it may.

    Raises:
        TargetError: with the ops that stay on the CPU; none goes to the NPU is too many as well.
        ToolError: the compiler fails.
    """
    found = compiled_for_plugin(graph, profile)
    if found.partitions <= limit and (found.partitions > 0 or not found.ops):
        return
    why = f"`edgeqwt check FILE --target {profile.name}` says why; --fix rewrites what can be"
    hint = f"{why}. Allow more, or replace the ops."
    raise TargetError(f"more than {limit} partitions on {profile.name}: {placement(found)}", hint)


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


def costs(graph: Graph, cycles: Mapping[str, float] | None = None, *, bits: int = 32) -> Costs:
    """What each op costs, as far as the graph tells.

    Args:
        graph: integer or float.
        cycles: by op, where they are known.
        bits: what a float counts as.

    Returns:
        "ram": bytes of the activations that the op reads and writes, which are alive together while it
        runs; "flash": bytes of its constants; "cycles" as given.
    """
    ram, flash = {}, {}
    for i, op in enumerate(graph.ops):
        used = [graph.tensors[t] for t in dict.fromkeys(op.tensors)]
        name = f"{op.kind} {i} ({short(graph.tensors[op.outputs[0]].name)})"
        ram[name] = float(sum(memory.bytes_of(t, bits, True) for t in used if not t.is_constant))
        flash[name] = float(sum(memory.bytes_of(t, bits, True) for t in used if t.is_constant))
    return {"ram": ram, "flash": flash, "cycles": cycles or {}}


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
