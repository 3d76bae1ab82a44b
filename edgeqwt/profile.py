"""What a device can run, as data; `targets/` reads profiles from files and checks graphs against them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType

from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.runtime.qualcomm import Toolchain


@dataclass(frozen=True)
class Npu:
    """An Arm Ethos-U as its compiler, Vela, knows it; the names are Vela's.

    Attributes:
        accelerator: such as ethos-u55-128.
        system_config: clock and memories, such as Ethos_U55_High_End_Embedded.
        memory_mode: which memory holds what, such as Shared_Sram.
        system: what Vela's file has to say of the system config, in its keys, where that is no config of Vela's own.
    """

    accelerator: str
    system_config: str
    memory_mode: str
    system: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plugin:
    """An NPU that a vendor's compiler plugin of LiteRT compiles for.

    Attributes:
        vendor: as the plugin calls itself, a key of `runtime.vendors.VENDORS`.
        soc: the chip as the vendor calls it, such as SM8650.
        toolchain: where the plugin and its libraries are; None where they are not, or were not looked for.
        missing: what to do where they are not there, a sentence.
    """

    vendor: str
    soc: str
    toolchain: Toolchain | None = None
    missing: str = ""


@dataclass(frozen=True)
class TargetProfile:
    """A family of devices.

    Attributes:
        name: what `--target` takes.
        title: one line for people.
        runtimes: names of `runtime.runners.RUNNERS` that must load and run the model.
        notes: sentences on what was verified and what was not.
        package: which package `build --output` makes: tflite, tflm, ethos-u or npu.
        npu: the NPU that Vela compiles for; None without one.
        plugin: the NPU that a plugin of LiteRT compiles for; None without one.
        limits: what the device does not take, by the name of a constraint (`targets.constraints`).
    """

    name: str
    title: str
    runtimes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    package: str = "tflite"
    npu: Npu | None = None
    plugin: Plugin | None = None
    limits: Mapping[str, object] = field(default_factory=dict)

    @property
    def on_litert_cpu(self) -> bool:
        """Whether LiteRT's kernels on a CPU are what it runs on, whose op times `OpTimes` has."""
        return "xnnpack" in self.runtimes and self.npu is None and self.plugin is None


@dataclass(frozen=True)
class Kernels:
    """What there is to run a model with, as lowering asks for it.

    Attributes:
        target: its name, for messages.
        missing: kinds of ops that the target lacks: a table stands in where the op is elementwise.
        missing16: kinds of ops that it lacks with 16-bit activations: they have 8 bits.
        left_over: kinds of ops that its accelerator, or XNNPACK, leaves to slower kernels with 8-bit activations.
        narrow_casts: whether the target casts int8 to int16; a table of int16 values stands in for it otherwise.
        quick_tables: whether such a table is also faster than a CAST and the ADD that changes scale and zero point.
        adds_zero: whether its ADD of zero changes a scale; SUB of zero stands in for it otherwise.
        locations: of the model: tensor name to the location in the source, for messages.
        bits: of the widest activations that it takes.
    """

    target: str = "tflite"
    missing: Set[str] = frozenset()
    missing16: Set[str] = frozenset()
    left_over: Set[str] = frozenset()
    narrow_casts: bool = True
    quick_tables: bool = False
    adds_zero: bool = True
    locations: Mapping[str, str] = field(default_factory=dict)
    bits: int = 16


LITERT = Kernels()
"""LiteRT's own: they have all that the op table has."""


def kernels_of(target: TargetProfile, locations: Mapping[str, str] = MappingProxyType({})) -> Kernels:
    """The kernels of a target, and where the ops of a model that it is to run are in their source."""
    # LiteRT's 16-bit ADD takes 10 ns for an element where one side is a scalar; CAST, ADD and GATHER in 32 bits take 4.
    quick = target.limits.get("accelerated_ops") or target.limits.get("delegated_ops")
    taken = {*quick.get("int8", ())} if isinstance(quick, Mapping) else {*RULES}
    return Kernels(
        target.name,
        *_missing_ops(target),
        left_over=frozenset(RULES) - taken,
        narrow_casts="plugin_ops" not in target.limits,
        quick_tables="xnnpack" in target.runtimes,
        adds_zero="plugin_zero" not in target.limits,
        locations=locations,
        bits=8 if target.limits.get("activation_bits") == 8 else 16,
    )


def _missing_ops(target: TargetProfile) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds of ops that lowering must do without: in any width, and with 16-bit activations."""
    taken = target.limits.get("plugin_ops")
    if isinstance(taken, Mapping):  # LiteRT runs what the NPU leaves over; what is left over cuts the network
        return frozenset(), frozenset(RULES16) - {*taken.get("int16", ())}
    lacking, lacking16 = (frozenset(kind for kind, row in rows.items() if not row.tflm) for rows in (RULES, RULES16))
    if "tflm" in target.runtimes:
        return lacking, lacking16
    # TFLite Micro runs what an NPU leaves over; SQRT is left over, and RSQRT need not be written with it.
    taken, missing16 = target.limits.get("npu_ops"), frozenset({"SQRT"} if target.npu is not None else ())
    if not isinstance(taken, Mapping):
        return frozenset(), missing16
    npu = {*taken.get("int8", ())}
    # What neither of them has, such as GELU, is a table that TFLite Micro looks up.
    nowhere = {kind for kind in lacking if RULES[kind].elementwise}
    return frozenset((nowhere | {"GATHER"}) - npu), missing16


@dataclass(frozen=True)
class Finding:
    """Something that a target does not take, or takes at a price.

    Attributes:
        rule: name of the constraint.
        severity: "error": the target refuses the model; "warning": it runs, at a price.
        op: kind and index of the op in the graph, such as "CONV_2D 12"; empty for the model as a whole.
        tensor: name of the op's output, or of the tensor at fault.
        reason: what is wrong, one sentence.
        remedy: what to do, one sentence.
        fix: name of the rewrite that `--fix` applies; empty without one.
    """

    rule: str
    severity: str
    op: str
    tensor: str
    reason: str
    remedy: str
    fix: str = ""


@dataclass(frozen=True)
class Budget:
    """What a model may cost at most on its target; None: not limited.

    Attributes:
        ram: bytes of memory that is written at run time (the arena).
        flash: bytes of the model.
        cycles: of one inference.
        partitions: pieces of it that an NPU runs, between which the CPU does.
    """

    ram: int | None = None
    flash: int | None = None
    cycles: int | None = None
    partitions: int | None = None
