"""What `report.json` holds, as types, of which docs/report.schema.json is made; `details.py` has those of details.json.

Parts that a build has as values of its own are those values; what is here stands in the file in another form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from edgeqwt.ceiling import Ceiling
from edgeqwt.converted import Attempt, Constant
from edgeqwt.mixed.build import Assignment
from edgeqwt.passes.run import Gain
from edgeqwt.pipeline import Sources
from edgeqwt.profile import Finding, TargetProfile
from edgeqwt.progress import LayerCost
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.report.rows import Cost, LayerRow, OpCounts, Output, PairedOutput, RankedErrors, Runtimes
from edgeqwt.report.widths import Widths
from edgeqwt.rounding.structure import LayerStructure
from edgeqwt.runtime.qualcomm import Left
from edgeqwt.verify.choice import Choice
from edgeqwt.verify.parity import Parity
from edgeqwt.verify.thresholds import Shortfall

VERSION: Final = 3

Json = str | float | bool | list[Any] | dict[str, Any] | None


@dataclass(frozen=True)
class Compiler:
    """The NPU that a vendor's plugin of LiteRT compiles for.

    Attributes:
        vendor: as the plugin calls itself.
        soc: the chip, as the vendor calls it.
    """

    vendor: str
    soc: str


@dataclass(frozen=True)
class Target(TargetProfile):
    """What the model was built for; of a vendor's compiler what it is for, not where it lies here."""

    plugin: Compiler | None = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Options(Recipe):
    """Every option that the build used, by its name in recipe files; techniques are tables of their name and options.

    Attributes:
        techniques: what is done to the model, in this order, each with its options; see docs/techniques.md.
    """

    techniques: tuple[Mapping[str, Json], ...] = ()  # type: ignore[assignment]


@dataclass(frozen=True)
class FileTensor:
    """The tensor of model.tflite that carries an input or output.

    Attributes:
        name: the tensor's name.
        shape: sizes of the dimensions, batch included.
        dtype: the tensor's type: int8, float32, int32, ...
        scale: real value of one step: real = scale × (integer − zero_point); null for tensors that are not quantized.
        zero_point: the integer that stands for 0; null for tensors that are not quantized.
        permutation: axes such that the file's array is the source's array transposed by them, (0, 2, 3, 1) for NCHW
            to NHWC; null where the layouts agree.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    permutation: tuple[int, ...] | None


@dataclass(frozen=True)
class End:
    """An input or output of the model.

    Attributes:
        name: in the source model.
        shape: in the source model, batch included; null where it takes any size.
        dtype: numpy type name in the source model, such as float32 or int64.
        file: the tensor that carries it in model.tflite.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    file: FileTensor


@dataclass(frozen=True)
class Model:
    """What goes in and comes out, in the source's terms and in those of model.tflite.

    Attributes:
        inputs, outputs: in the source's order.
        constants: inputs of the source that the build made constants (--input NAME=constant).
        notes: what the conversion changed that a user must know, as sentences.
        rewrites: what was rewritten in the float model before it was quantized, as sentences.
    """

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    constants: tuple[Constant, ...]
    notes: tuple[str, ...]
    rewrites: tuple[str, ...]


@dataclass(frozen=True)
class Converter:
    """How the source became a float TFLite model.

    Attributes:
        name: the converter whose result computes what the source does: onnx2tf, litert-torch or tensorflow.
        cached: whether it did not run, as what it wrote of the same file before was at hand.
        failed: the converters that were tried before it, in order; others were not tried.
    """

    name: str
    cached: bool
    failed: tuple[Attempt, ...]


@dataclass(frozen=True)
class SampleCounts:
    """Samples.

    Attributes:
        calibration: how many there were.
        held_out: how many of them were held out: they decide, and nothing is fitted on them. 0 where there is one
            sample.
        layers: how many of these, the first ones, layers are compared on: fewer where layers are large.
        evaluation: how many evaluation samples there were; 0 without any.
        warnings: what of the calibration samples speaks against deciding by them.
    """

    calibration: int
    held_out: int
    layers: int
    evaluation: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TechniqueRun:
    """One technique.

    Attributes:
        name: as recipes have it.
        options: its options; docs/techniques.md says what they mean.
        kept: whether the model was another one afterwards.
        sentences: what it did, for people.
        data: what it did, in figures of its own.
    """

    name: str
    options: Mapping[str, Json]
    kept: bool
    sentences: tuple[str, ...]
    data: Mapping[str, Json]


@dataclass(frozen=True)
class Limits:
    """What the build was allowed to take.

    Attributes:
        seconds: of time; null: not limited. With such a limit a file depends on how quick the machine was.
        memory: bytes; null: not limited.
        less: techniques that did less for it than the recipe asks, name to the reason. Their options in `techniques`
            are those that they ran with: a recipe of these, without a limit, makes the same file.
    """

    seconds: float | None
    memory: int | None
    less: Mapping[str, str]


@dataclass(frozen=True)
class SignatureGroup:
    """Values of the input that selects a signature of model.tflite, and what its scales are worth.

    Attributes:
        signature: its key.
        lowest: the smallest value that it serves; null: all below `below`.
        below: the smallest value that the next one serves; null: all from `lowest` on.
        own: whether it has scales of its own; else it runs the graph of one set of scales.
        db: what varies at the worst output, on the group's held-out samples.
        one_set_db: the same of the graph of one set of scales.
        gain_db: what scales of its own gain, or would.
        exact: whether its graph is bit-exact in the runtimes, as far as the op table says.
    """

    signature: str
    lowest: float | None
    below: float | None
    own: bool
    db: float | None
    one_set_db: float | None
    gain_db: float
    exact: bool


@dataclass(frozen=True)
class Grouped:
    """Scales per group of samples.

    Attributes:
        input: selects the signature.
        reason: why one set of scales is kept; empty where the file has groups.
        bytes: of the file.
        signatures: one for each group; none where one set of scales is kept.
    """

    input: str
    reason: str
    bytes: int
    signatures: tuple[SignatureGroup, ...]


@dataclass(frozen=True)
class Compilation:
    """What the NPU's compiler made of the file.

    Attributes:
        soc: the chip that it was compiled for.
        ops: how many the file has.
        partitions: pieces of it that the NPU runs, each called from the CPU.
        on_cpu: ops that stay on the CPU.
    """

    soc: str
    ops: int
    partitions: int
    on_cpu: tuple[Left, ...]


@dataclass(frozen=True)
class Report:
    """What `edgeqwt build` writes to report.json: how an integer model was made, how close it is, and what was proved.

    Attributes:
        schema: tells this file from any other.
        version: of this schema. It rises when a field goes or changes its meaning; fields may be added without.
        sources: what the user named: a path, file.py:function, or what kind of object it was.
        target: what the model was built for.
        recipe: every option that the build used.
        model: what goes in and comes out.
        converter: how the source became a float TFLite model; null where it was one.
        samples: how many there were.
        parity: the float model against the source model; a build stops where they differ by more than
            rounding explains.
        adapted: what was rewritten in the integer model for the target.
        findings: what the target takes at a price.
        kept: which integer model became model.tflite.
        ceiling: what activations rounded as in model.tflite leave at best, with float weights; null where it was not
            asked for.
        own_errors: what each op errs by itself.
        shortfalls: what is poor about the model that was kept, or below the quality that was asked for and accepted.
        remedy: what may help where an output or a part of one has less than 25 dB; empty otherwise.
        assignment: which widths were chosen under a limit, and why; null where the recipe has them.
        techniques: what was done to the model, in order; techniques of the recipe that did not suit it are missing.
        gradients_stop: ops that have no gradient, and what counts as if the outputs did not depend on it.
        structure: what became of zeros and clusters that training had put into the weights, layer by layer; empty where
            there were none.
        gains: what each technique gains, by leave-one-out; empty where the recipe does not ask for it.
        package: files of the target's package, in the folder package.
        npu: what the NPU's compiler made of the file; null where none was asked.
        layers: linear layers, and other ops that compensation corrects, in the order of the ops.
        outputs: each integer model's outputs against the float model's, on the held-out samples; `plain` and
            `compensated` where there are such models.
        paired: each integer model against the one before it (plain, uncompensated, compensated), sample by sample.
        scores: the user's metrics on the evaluation data, by model; empty without any.
        bytes: size of each model's file, in bytes.
        compressed_bytes: sizes of the same files after DEFLATE, as a download or an application package compresses
            them; empty where training had put no zeros or clusters into the weights.
        bit_operations: multiplications of one inference of the model that was kept, each times the bits of its weight
            and of its activation.
        ops: ops of each model; float is the model that was quantized.
        widths: ops of the model that was kept, by the width of their activations, and copies between the widths.
        cost_of_compensation: the compensated file against the int8 file; null where compensation is off.
        runtimes: model.tflite in the runtimes.
        groups: scales per group of samples; null where none were asked for. Everything else is of the model with one
            set of scales.
        limits: what the build was allowed to take; null where neither time nor memory was limited.
        seconds: wall-clock seconds of each stage, in the order in which they ran. The only part of the report that is
            not the same for the same build, with peak_mib, layer_costs and whether the conversion was cached.
        peak_mib: MiB of memory that the process had taken at most by the end of each stage; empty where the system
            does not say.
        layer_costs: the same by layer, by its output's name, of the stages that go from one layer to the next.
        versions: Python and every package that took part, name to version.
        machine: operating system and processor family, such as Linux x86_64.
    """

    schema: Literal["edgeqwt.report"]
    version: Literal[3]
    sources: Sources
    target: Target
    recipe: Options
    model: Model
    converter: Converter | None
    samples: SampleCounts
    parity: Parity
    adapted: tuple[str, ...]
    findings: tuple[Finding, ...]
    kept: Choice
    ceiling: Ceiling | None
    own_errors: RankedErrors
    shortfalls: tuple[Shortfall, ...]
    remedy: str
    assignment: Assignment | None
    techniques: tuple[TechniqueRun, ...]
    gradients_stop: tuple[str, ...]
    structure: tuple[LayerStructure, ...]
    gains: tuple[Gain, ...]
    package: tuple[str, ...]
    npu: Compilation | None
    layers: tuple[LayerRow, ...]
    outputs: Mapping[str, tuple[Output, ...]]
    paired: Mapping[str, tuple[PairedOutput, ...]]
    scores: Mapping[str, Mapping[str, float]]
    bytes: Mapping[str, int]
    compressed_bytes: Mapping[str, int]
    bit_operations: int
    ops: Mapping[str, OpCounts]
    widths: Widths
    cost_of_compensation: Cost | None
    runtimes: Runtimes
    groups: Grouped | None
    limits: Limits | None
    seconds: Mapping[str, float]
    peak_mib: Mapping[str, int]
    layer_costs: Mapping[str, Mapping[str, LayerCost]]
    versions: Mapping[str, str]
    machine: str
