"""Rows of `report.json` on what was measured: layers, outputs, runtimes; `body.py` has what holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeqwt.verify.bitexact import Difference, Lacking
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.op_errors import OpError
from edgeqwt.verify.paired import Split


@dataclass(frozen=True, kw_only=True)
class RankedError(OpError):
    """What one op errs by itself.

    Attributes:
        rank: 1 for the largest own error; null for ops that have none.
    """

    rank: int | None


@dataclass(frozen=True)
class RankedErrors:
    """What each op of the model that was kept errs by itself, beside the error that it is handed.

    Attributes:
        samples: held-out samples that were run.
        unpaired: ops whose output the float model does not have; their errors count for the next op that has one.
        skipped: why nothing is known; empty otherwise.
        ops: in the order of the ops, inputs first.
    """

    samples: int
    unpaired: int
    skipped: str
    ops: tuple[RankedError, ...]


@dataclass(frozen=True)
class BeforeAfter:
    """Without and with compensation.

    Attributes:
        before: without compensation, in dB; null where it is no finite number.
        after: with compensation, in dB; null too where compensation is off.
    """

    before: float | None
    after: float | None


@dataclass(frozen=True)
class Fit:
    """Correction of one op: real output × gain + offset, per output channel.

    Attributes:
        channels: output channels.
        with_gain: how many of them got a gain.
        with_offset: how many of them got an offset.
        gain: smallest and largest gain; 1 where a channel got none. No unit.
        sqnr_db: SQNR of the op's real output, before its activation and rounding, on samples that the correction was
            not fitted on, everything before it compensated already.
        output_scale: old and new scale of the output tensor, in real units per step; null where it stayed.
    """

    channels: int
    with_gain: int
    with_offset: int
    gain: tuple[float, float]
    sqnr_db: BeforeAfter
    output_scale: tuple[float, float] | None


@dataclass(frozen=True)
class SkippedChannels:
    """Channels of one reason.

    Attributes:
        channels: how many channels got nothing, or only a part of a correction.
        reason: why.
    """

    channels: int
    reason: str


@dataclass(frozen=True)
class LayerRow:
    """One convolution, depthwise or transposed convolution, fully connected layer or other op that is corrected.

    Attributes:
        name: of the op's output tensor in model.tflite.
        location: where the source model computes it, such as layer1.0.conv1; empty where nobody knows.
        kind: the TFLite op, such as CONV_2D.
        sqnr_db: SQNR of the op's output against the float model's on the held-out samples, the whole integer model
            running, so that it includes the errors of the layers before.
        fit: what compensation fitted and folded in; null where compensation is off or skipped the op as a whole.
        skipped: what compensation left alone, and why.
    """

    name: str
    location: str
    kind: str
    sqnr_db: BeforeAfter
    fit: Fit | None
    skipped: tuple[SkippedChannels, ...]


@dataclass(frozen=True, kw_only=True)
class Part(Closeness):
    """A part of an output of an integer model against the float model's.

    Attributes:
        name: what is joined there, or the columns.
        unresolved: the step of its kernels, where it is a probability that varies by less: it is not judged then; null
            otherwise.
    """

    name: str
    unresolved: float | None


@dataclass(frozen=True)
class Judged:
    """The tensor that decided which model was kept: the output or, where the model ends in softmax, what goes into it.

    Attributes:
        tensor: its name.
        sqnr_db: 10 log10(Σ reference² / Σ error²) in dB.
        varying_db: SQNR of what varies there, in dB; null where nothing varies.
        standard_error: of varying_db, by the jackknife over the held-out samples, in dB; null where there are too few.
        unresolved: the step of its kernels, where it is a probability that varies by less: it is not judged then; null
            otherwise.
    """

    tensor: str
    sqnr_db: float
    varying_db: float | None
    standard_error: float
    unresolved: float | None


@dataclass(frozen=True, kw_only=True)
class Output(Closeness):
    """One output of an integer model against the float model's.

    Attributes:
        name: in the source model.
        tensor: name of the tensor in the file.
        parts: parts of the output that mean different things, such as boxes and class scores.
        judged_at: where it was decided.
    """

    name: str
    tensor: str
    parts: tuple[Part, ...]
    judged_at: Judged


@dataclass(frozen=True)
class PairedOutput:
    """What one integer model gains over another at one output.

    Attributes:
        gain_db: decibels of SQNR at the tensor that decides for the output; null where it is not finite.
        standard_error: of gain_db, by the jackknife over samples, in dB; null where there are too few samples.
        classes: largest elements that agree with the float model's; null where the output has no rows of classes.
    """

    gain_db: float
    standard_error: float
    classes: Split | None


@dataclass(frozen=True)
class OpCounts:
    """Ops of one file.

    Attributes:
        total: how many.
        kinds: kind to number of ops.
    """

    total: int
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Cost:
    """The compensated file against the int8 file. A build stops where it is not 0, 0 and true.

    Attributes:
        ops: number of ops; 0.
        bytes: file size, in bytes; 0.
        same_order_of_ops: whether both files have the same kinds of ops in the same order; true.
    """

    ops: int
    bytes: int
    same_order_of_ops: bool


@dataclass(frozen=True, kw_only=True)
class TensorDifference(Difference):
    """One tensor as two kernel families compute it.

    Attributes:
        unit: of `largest`. steps: integer steps of the tensor's scale. real: real units, for float tensors.
    """

    unit: Literal["steps", "real"]


@dataclass(frozen=True)
class Micro:
    """TFLite Micro against LiteRT's reference kernels, each op fed with the reference kernels' bytes.

    Attributes:
        ok: whether nothing differs but FULLY_CONNECTED, and that by one step at most. True too where nothing ran.
        ops: ops that TFLite Micro ran.
        elements: elements that were compared, over all ops and samples.
        differences: tensors that differ.
        lacking: ops that TFLite Micro does not take.
        unavailable: why TFLite Micro does not run the whole model, with the first op that it does not take; null where
            it does.
    """

    ok: bool
    ops: int
    elements: int
    differences: tuple[TensorDifference, ...]
    lacking: tuple[Lacking, ...]
    unavailable: str | None


@dataclass(frozen=True)
class Xnnpack:
    """XNNPACK against LiteRT's reference kernels, each running freely, so that differences add up.

    Attributes:
        largest_steps: largest difference in any integer tensor, in steps of its scale; null where there is none.
        largest_steps_at_outputs: the same at the outputs; null where they are float.
        not_taken: ops that XNNPACK leaves to LiteRT's built-in kernels, how many of each kind and type, such as
            "SOFTMAX on int8"; null where the target has no XNNPACK.
        tensors: every op's outputs, in the order of the ops.
    """

    largest_steps: float | None
    largest_steps_at_outputs: float | None
    not_taken: Mapping[str, int] | None
    tensors: tuple[TensorDifference, ...]


@dataclass(frozen=True)
class Runtimes:
    """model.tflite in the runtimes, all on the same held-out samples.

    Attributes:
        samples: how many.
        overwritten: outputs that LiteRT computes differently when nothing looks at the tensors in between, because it
            writes over values that are still needed.
        tflite_micro: the microcontrollers' interpreter.
        xnnpack: LiteRT's default kernels.
    """

    samples: int
    overwritten: tuple[str, ...]
    tflite_micro: Micro
    xnnpack: Xnnpack
