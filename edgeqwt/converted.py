"""What a converter hands to the build: a float graph, and how it relates to its source model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeqwt.calibration.deciding import Within
from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.graph.graph import DTYPES, Array, Graph

MOST_VALUES = 64  # of a constant that a report lists
NEARLY = 0.01  # of a pixel: far more than float32 leaves of it, far less than what other numbers are off


@dataclass(frozen=True, eq=False)
class Affine:
    """How what a graph's input takes relates to the source model's values: source = factor * graph + shift.

    Attributes:
        factor, shift: float32, in the graph's layout, broadcasting over the input.
        whole: whether the graph's values are whole numbers, but for rounding in float32.
    """

    factor: Array
    shift: Array
    whole: bool = False

    def to_graph(self, source: Array) -> Array:
        """What the graph's input takes; `source` in the graph's layout."""
        values = (source - self.shift) / self.factor
        if not self.whole:
            return np.asarray(values)
        nearest = np.rint(values)
        return np.where(np.abs(values - nearest) < NEARLY, nearest, values)


@dataclass(frozen=True)
class Binding:
    """One input or output of the source model and the graph tensor that carries it.

    Attributes:
        spec: name, shape and dtype in the source model.
        tensor: the tensor's index in the graph.
        permutation: axes such that graph array = source array transposed by it
            (NCHW to NHWC is (0, 2, 3, 1)); None where the layouts agree.
        affine: where the graph's input takes other values than the source model's, such as pixels.
    """

    spec: InputSpec
    tensor: int
    permutation: tuple[int, ...] | None = None
    affine: Affine | None = None

    def to_graph(self, array: Array, graph: Graph) -> Array:
        """A source array in the graph's layout and element type (real values, never quantized)."""
        moved = array if self.permutation is None else array.transpose(self.permutation)
        wanted = graph.tensors[self.tensor]
        if self.affine is not None:
            moved = self.affine.to_graph(moved.reshape(wanted.shape))
        dtype = DTYPES[
            "float32" if wanted.dtype in ("int8", "int16", "uint8") and array.dtype.kind == "f" else wanted.dtype
        ]
        return np.ascontiguousarray(moved.reshape(wanted.shape), dtype)

    def to_source(self, array: Array) -> Array:
        """A graph array in the source model's layout, and rank: TFLite has no scalar outputs."""
        moved = array if self.permutation is None else array.transpose(np.argsort(self.permutation))
        if moved.ndim != len(self.spec.shape) and None not in self.spec.shape:
            moved = moved.reshape([size or 0 for size in self.spec.shape])
        return np.ascontiguousarray(moved) if moved.ndim else moved


@dataclass(frozen=True, eq=False)
class LearnedRanges:
    """Scales that a network was trained with, by tensor name; see `lowering.fake_quant`.

    Attributes:
        activations: scale and zero point, as int8.
        weights: scales, float64, of shape (channels,) or (1,); zero points are 0.
    """

    activations: Mapping[str, tuple[float, int]]
    weights: Mapping[str, Array]


@dataclass(frozen=True)
class Attempt:
    """A converter that was tried before the one that was taken, and what it did wrong.

    Attributes:
        converter: its name.
        version: of its tool.
        error: what went wrong.
        op: the first op that is wrong, with its output tensor; empty where it is not about one.
        location: where in the source model that op is; empty where nobody knows.
        hint: the shortest change that would help.
    """

    converter: str
    version: str
    error: str
    op: str
    location: str
    hint: str

    @property
    def sentence(self) -> str:
        """For messages."""
        return f"{self.converter} {self.version}: {self.error} {self.hint}".strip()


@dataclass(frozen=True)
class Joined:
    """An output of the source model that the file has in parts.

    Attributes:
        name: in the source model.
        axis: of the source model's array, along which the parts are joined again.
        parts: the parts' names, in order.
    """

    name: str
    axis: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """An input of the source model that the file does not have: its value is a part of the model.

    Attributes:
        name, dtype, shape: in the source model.
        values: one after the other, along the last axis first; one alone where all are equal; null where there are
            more than 64, or some are not finite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: tuple[int | float | bool, ...] | None

    @staticmethod
    def of(name: str, value: Array) -> Constant:
        """The constant that an input of some name and value becomes."""
        flat = value.reshape(-1)
        several = flat[: 1 if (flat == flat[:1]).all() else None]
        listed = several.size <= MOST_VALUES and bool(np.isfinite(several).all())
        values = tuple(several.tolist()) if listed else None
        return Constant(name, str(value.dtype), value.shape, values)

    @property
    def sentence(self) -> str:
        """For people."""
        if self.values is None:
            what = f"{self.dtype} values of shape {self.shape}, as in all samples"
        else:
            what = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self.values)
        return f"Input {self.name!r} is a constant, and the file does not have it: {what}."


@dataclass(frozen=True)
class ConvertedModel:
    """A float TFLite graph, with what is needed to prove it and to talk about it in the source's terms.

    Attributes:
        graph: the float graph.
        inputs, outputs: in the source model's order.
        run_source: runs the source model itself on one sample (source layout) and
            returns its outputs by name (source layout).
        trace_source: runs an intermediate form of the source on one sample and returns
            the values of as many graph tensors as are known, by graph tensor name, in the
            graph's layout; None where the source has no intermediate form (a .tflite file).
        locations: graph tensor name to the location in the source model that computes it.
        notes: sentences for the report (layout changes, names that were changed).
        log: the converter's log file, or None.
        joined: outputs of the source model that the graph has in parts.
        constants: inputs of the source model that the graph has as constants.
        versions: package name to version of the tools that took part.
        learned: the scales that training chose, where the source was trained with quantization; `graph` is the
            float network below, with the weights that training rounded to. None otherwise.
        converter: that made the graph; empty where the source is a .tflite file.
        attempts: the converters that were tried before it.
        cached: whether that converter did not run: what it wrote of the same file before was at hand.
        deciding: what of outputs decides, by their position, where the recipe says so.
    """

    graph: Graph
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    run_source: Callable[[Sample], Mapping[str, Array]]
    trace_source: Callable[[Sample], Mapping[str, Array]] | None = None
    locations: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    log: Path | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    joined: tuple[Joined, ...] = ()
    constants: tuple[Constant, ...] = ()
    learned: LearnedRanges | None = None
    converter: str = ""
    attempts: tuple[Attempt, ...] = ()
    cached: bool = False
    deciding: Mapping[int, Within] = field(default_factory=dict)

    def on(self, graph: Graph) -> ConvertedModel:
        """The model with another graph, whose inputs and outputs are in the same order."""
        new = dict(zip((*self.graph.inputs, *self.graph.outputs), (*graph.inputs, *graph.outputs), strict=True))
        inputs, outputs = (
            tuple(replace(b, tensor=new[b.tensor]) for b in bindings) for bindings in (self.inputs, self.outputs)
        )
        return replace(self, graph=graph, inputs=inputs, outputs=outputs)

    def graph_inputs(self, sample: Sample) -> dict[int, Array]:
        """A source sample as real-valued arrays by graph tensor index."""
        return {b.tensor: b.to_graph(np.asarray(sample[b.spec.name]), self.graph) for b in self.inputs}
