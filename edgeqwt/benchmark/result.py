"""What a benchmark found, in one form for every backend by which models are run or estimated.

docs/bench.md explains it and docs/bench.schema.json pins it; `VERSION` rises when a field goes or
changes its meaning.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeqwt.output import finite

SCHEMA = "edgeqwt.bench"
VERSION = 1

MEASURED, ESTIMATED, EMULATED, SIMULATED = "measured", "estimated", "emulated", "simulated"
"""Where figures come from: a run of the thing itself, a model of the hardware, an emulator, or a simulation of its
arithmetic alone."""
NOT_ON_HARDWARE = "not verified on hardware"


@dataclass(frozen=True)
class Figure:
    """One number; less is better.

    Attributes:
        name: such as latency_min, arena, cycles_total.
        kernels: which family of kernels it comes from: "xnnpack", "reference", "tflm"; empty elsewhere.
        value: in `unit`.
        unit: "s", "B", "cycles", "instructions", "ticks", "MAC", "steps", "%", or empty of a count.
    """

    name: str
    kernels: str
    value: float
    unit: str


@dataclass(frozen=True)
class OpCost:
    """What one op, or a group that the runtime fused, costs.

    Attributes:
        kind: as the backend calls it; `Conv2D` in Vela, `CONV_2D` in LiteRT.
        name: of its output tensor, or what the backend says instead.
        where: the processor or delegate it runs on: "CPU", "NPU", "XNNPACK", "TFLite Micro".
        value: in `unit`.
        unit: see Figure.
    """

    kind: str
    name: str
    where: str
    value: float
    unit: str


@dataclass(frozen=True)
class Check:
    """A question with an answer.

    Attributes:
        name: what was asked, a statement.
        ok: whether it holds.
        detail: what was found, one line.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class OpDifference:
    """An op whose output is not the same integers everywhere; see `verify.bitexact.Difference`."""

    kind: str
    op: int
    tensor: str
    elements: int
    differing: int
    largest: float
    known: bool


@dataclass(frozen=True)
class BenchResult:
    """One model on one backend.

    Attributes:
        file: the model's file name, or the firmware's.
        bytes: its size.
        ops: its ops by kind; empty for a firmware.
        where: "host", "tflm", "qemu", "android", or the NPU.
        evidence: MEASURED, ESTIMATED, EMULATED or SIMULATED.
        figures: no two have the same name and kernels.
        op_costs: in the order in which they run; empty where the backend does not tell.
        checks: what was compared on the way.
        differences: ops that differ from LiteRT's reference kernels.
        notes: what one must know to read the figures, such as NOT_ON_HARDWARE.
        settings: how it was measured, name to value.
        versions: of the programs that took part.
        machine: where it ran.
    """

    file: str
    bytes: int
    ops: Mapping[str, int]
    where: str
    evidence: str
    figures: tuple[Figure, ...]
    op_costs: tuple[OpCost, ...] = ()
    checks: tuple[Check, ...] = ()
    differences: tuple[OpDifference, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    machine: str = ""

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def value(self, name: str, kernels: str = "") -> float:
        """A figure by name.

        Raises:
            KeyError: there is none.
        """
        return {(f.name, f.kernels): f.value for f in self.figures}[name, kernels]


@dataclass(frozen=True)
class Ratio:
    """A figure of two results side by side, in the same unit."""

    name: str
    kernels: str
    unit: str
    found: float
    other: float

    @property
    def ratio(self) -> float:
        """1: both cost the same; below 1: the first costs less."""
        if self.found == self.other:
            return 1.0
        return self.found / self.other if self.other else math.inf


def compare(found: BenchResult, other: BenchResult) -> tuple[Ratio, ...]:
    """The figures that both results have, and the sizes of their files; same backend, same settings."""
    theirs = {(f.name, f.kernels): f for f in other.figures}
    size = Ratio("file", "", "B", found.bytes, other.bytes)
    both = [(f, theirs[f.name, f.kernels]) for f in found.figures if (f.name, f.kernels) in theirs]
    return (size, *(Ratio(a.name, a.kernels, a.unit, a.value, b.value) for a, b in both))


def document(result: BenchResult, other: BenchResult | None = None) -> dict[str, Any]:
    """A result, and what it was compared with, as plain data for JSON.

    Args:
        result: what was benchmarked.
        other: a second model on the same backend.
    """
    body: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, **_plain(result)}
    if other is not None:
        ratios = [{**dataclasses.asdict(r), "ratio": r.ratio} for r in compare(result, other)]
        body["compared"] = {"other": _plain(other), "ratios": ratios}
    cleaned: dict[str, Any] = finite(body)
    return cleaned


def _plain(result: BenchResult) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "ok": result.ok}
