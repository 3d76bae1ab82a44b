"""The float parity gate: a float graph that does not compute what its source computes is stopped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.errors import EdgeqwtError, InputError, ParityError
from edgeqwt.graph.fills import LARGE
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.feeds import feed, output_tensor
from edgeqwt.verify.metrics import Sums, compare
from edgeqwt.verify.rounding import Bounded, Rounding, Verdict

HIDDEN_ROWS = (
    " An attention mask of -infinity that hides a whole row, such as one of padding, makes NaN of its softmax: use "
    "-1e9 in its place."
)
HIDDEN_WHOLLY = (
    "A mask hides everything there in this sample, which no network meets in training: check the mask's "
    "meaning in the samples (whether true stands for padding, or for what counts), and leave out rows of padding alone."
)
FAR = 16.0
"""How many tolerances a difference may be for the other samples' to be waited for. Of outputs of few elements, moves
may cancel on a sample, as terms do: a normal one is below 1/16 of its standard deviation on one sample of 20."""


@dataclass(frozen=True)
class OutputParity:
    """One output of the float graph against the source's.

    Attributes:
        name: in the source model.
        max_abs: largest absolute difference over all samples.
        tolerance: what rounding explained on the sample that used most of it; 0 for integer outputs.
        used: the share of its tolerance that this sample used, below 1.
        cosine: over all samples.
        ties: elements of an integer or bool output that differ because rounding decides them.
    """

    name: str
    max_abs: float
    tolerance: float
    used: float
    cosine: float
    ties: int


@dataclass(frozen=True)
class Parity:
    """That the float graph computes what the source computes.

    Attributes:
        samples: how many were run through both.
        outputs: in the source's order.
    """

    samples: int
    outputs: tuple[OutputParity, ...]


def check_parity(converted: ConvertedModel, graph: Graph, samples: Iterable[Sample]) -> Parity:
    """Runs the source and the float graph on every sample and compares the outputs.

    The graph runs in LiteRT with its default kernels, as users run it. The tolerance of each
    output and sample is measured; `verify.rounding` says how and why. On one sample moves and terms may cancel, so that
    they explain less than rounding does: the largest of all samples counts.

    Args:
        converted: the source, and how its inputs and outputs map to the graph's.
        graph: converted.graph, or what rewrites made of it: inputs and outputs in the same order.
        samples: real ones, in the source's layout; a few are enough.

    Raises:
        ParityError: on the first sample whose outputs differ by more than rounding explains; it
            names the first op whose output diverges.
        InputError: there are no samples.
        ToolError: LiteRT refuses the graph.
    """
    rounding, doubtful = Rounding(graph), list[_Doubt]()
    sums = [Sums()] * len(converted.outputs)
    worst = [Verdict(True, 0.0, 0.0)] * len(converted.outputs)
    ties, most = [0] * len(converted.outputs), [0.0] * len(converted.outputs)
    count = 0
    for index, sample in enumerate(samples):
        source = _source_outputs(converted, sample, index)
        found = rounding.run(feed(converted, graph, sample))
        for k, binding in enumerate(converted.outputs):
            bounded = _bound_output(converted, graph, binding, found)
            verdict = bounded.judge(source[k])
            if not verdict.ok:
                doubtful.append(_Doubt(k, sample, index, source[k], bounded, verdict))
                if not verdict.max_abs <= FAR * verdict.tolerance:
                    raise doubtful[-1].error(converted, graph)
            most[k] = max(most[k], verdict.tolerance)
            sums[k] = sums[k].plus(compare(source[k], bounded.value))
            ties[k] += verdict.ties
            worst[k] = max(worst[k], verdict if verdict.ok else worst[k], key=lambda v: (v.used, v.tolerance))
        count += 1
    if count == 0:
        raise InputError("there are no samples to compare the float model with its source on", "Give at least one.")
    for doubt in doubtful:
        verdict = replace(doubt.bounded, tolerance=most[doubt.output]).judge(doubt.expected)
        if not verdict.ok:
            raise doubt.error(converted, graph)
        worst[doubt.output] = max(worst[doubt.output], verdict, key=lambda v: (v.used, v.tolerance))
    outputs = zip(converted.outputs, sums, worst, ties, strict=True)
    return Parity(count, tuple(_output_parity(binding, total, v, n) for binding, total, v, n in outputs))


def _output_parity(binding: Binding, total: Sums, worst: Verdict, ties: int) -> OutputParity:
    result = total.result()
    return OutputParity(binding.spec.name, result.max_abs, worst.tolerance, worst.used, result.cosine, ties)


def _source_outputs(converted: ConvertedModel, sample: Sample, index: int) -> list[Array]:
    by_name = converted.run_source(sample)
    arrays = [np.asarray(by_name[binding.spec.name]) for binding in converted.outputs]
    for binding, array in zip(converted.outputs, arrays, strict=True):
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ParityError(
                f"output {binding.spec.name!r} of the source model is NaN on sample {index}",
                "Check the model's weights and that sample: nothing can be compared with NaN."
                + (HIDDEN_ROWS if any(op.kind == "SOFTMAX" for op in converted.graph.ops) else ""),
            )
    return arrays


def _bound_output(converted: ConvertedModel, graph: Graph, binding: Binding, found: Mapping[int, Bounded]) -> Bounded:
    """The graph's output of a binding in the source's layout."""
    bounded = found[output_tensor(converted, graph, binding)]
    undecided = None if bounded.undecided is None else binding.to_source(bounded.undecided)
    return replace(bounded, value=binding.to_source(bounded.value), undecided=undecided)


@dataclass(frozen=True, eq=False)
class _Doubt:
    """An output that differs on a sample by more than this sample alone explains."""

    output: int
    sample: Sample
    index: int
    expected: Array
    bounded: Bounded
    verdict: Verdict

    def error(self, converted: ConvertedModel, graph: Graph) -> ParityError:
        """The error that names the op."""
        diagnosis = _Diagnosis(converted, graph, self.sample, self.index)
        return diagnosis.error(converted.outputs[self.output], self.verdict)


@dataclass(frozen=True)
class _Suspect:
    """The first op whose output diverges, and how many earlier ops could not be compared."""

    op: int
    verdict: Verdict
    unseen: int


@dataclass(frozen=True, eq=False)
class _Diagnosis:
    """Finds the op that made an output diverge, on the sample on which it did."""

    converted: ConvertedModel
    graph: Graph
    sample: Sample
    index: int

    def error(self, binding: Binding, verdict: Verdict) -> ParityError:
        """The error for an output that diverges: about the conversion, or about a rewrite after it."""
        if self.graph is not self.converted.graph and self._conversion_holds():
            return self._rewrite_error(binding, verdict)
        return self._conversion_error(binding, verdict)

    def _conversion_holds(self) -> bool:
        converted = self.converted
        source = converted.run_source(self.sample)
        try:
            found = Rounding(converted.graph).run(feed(converted, converted.graph, self.sample))
        except EdgeqwtError:  # LiteRT takes the rewritten graph only: nothing says that the conversion is right
            return False
        return all(
            _bound_output(converted, converted.graph, b, found).judge(np.asarray(source[b.spec.name])).ok
            for b in converted.outputs
        )

    def _rewrite_error(self, binding: Binding, verdict: Verdict) -> ParityError:
        before = self.converted.graph
        activations = [t for op in before.ops for t in op.outputs]
        values = feed(self.converted, before, self.sample)
        values |= xnnpack(before, activations).run(values)
        expected = {before.tensors[t].name: value for t, value in values.items()}
        suspect = self._first_divergence(self.graph, expected)
        hint = "This is a bug in edgeqwt's own rewriting of the float graph: please report it with the model."
        if suspect is not None and self._hidden(before, expected, self.graph.ops[suspect.op]):
            hint = HIDDEN_WHOLLY
        return ParityError(self._message("the rewritten float model", self.graph, binding, verdict, suspect), hint)

    def _hidden(self, before: Graph, expected: Mapping[str, Array], op: Op) -> bool:
        """Whether a tensor holds the fill of a mask in a whole row, which is written at a size of its own."""
        name = self.graph.tensors[op.outputs[0]].name
        rows = np.atleast_1d(expected.get(name, np.zeros(1)))
        return bool((rows <= -LARGE).all(axis=-1).any()) and any(o.kind == "SOFTMAX" for o in before.ops)

    def _conversion_error(self, binding: Binding, verdict: Verdict) -> ParityError:
        converted = self.converted
        log = f" The converter's log is {converted.log}." if converted.log else ""
        if converted.trace_source is None:
            where = f"output {binding.spec.name!r}{_by(verdict)}"
            return ParityError(
                f"the converted float model differs from its source on sample {self.index}: {where}; "
                "the source has no intermediate values that would tell which op is wrong",
                f"Convert the model again, or report it with the model.{log}",
            )
        suspect = self._first_divergence(converted.graph, converted.trace_source(self.sample))
        hint = "Write that part of the source model differently, or export it with another opset or exporter."
        if suspect is not None and _cut_off(converted.graph, suspect.op):
            hint = "What lies beyond an integer type's ends becomes one number or another: clamp it before the cast."
        message = self._message("the converted float model", converted.graph, binding, verdict, suspect)
        return ParityError(message, hint + log, *self._op(converted.graph, suspect))

    def _first_divergence(self, graph: Graph, expected: Mapping[str, Array]) -> _Suspect | None:
        activations = [t for op in graph.ops for t in op.outputs]
        found = Rounding(graph, activations).run(feed(self.converted, graph, self.sample))
        unseen = 0
        for i, op in enumerate(graph.ops):
            names = [(t, graph.tensors[t].name) for t in op.outputs]
            verdicts = [found[t].judge(_shaped(expected[name], found[t])) for t, name in names if name in expected]
            wrong = [v for v in verdicts if not v.ok]
            if wrong:
                return _Suspect(i, wrong[0], unseen)
            unseen = 0 if verdicts else unseen + 1
        return None

    def _message(self, what: str, graph: Graph, binding: Binding, verdict: Verdict, suspect: _Suspect | None) -> str:
        start = f"{what} differs from its source on sample {self.index}: "
        if suspect is None:
            output = f"output {binding.spec.name!r}{_by(verdict)}"
            return f"{start}{output}, although no intermediate tensor that can be compared diverges"
        op, location = self._op(graph, suspect)
        op += f" (in the source: {location})" if location else ""
        unseen = f"; of the {suspect.unseen} ops just before it nothing can be compared" if suspect.unseen else ""
        return f"{start}{op} is the first op whose output diverges{_by(suspect.verdict)}{unseen}"

    def _op(self, graph: Graph, suspect: _Suspect | None) -> tuple[str, str]:
        """The op, and its location in the source; empty where they are not known."""
        if suspect is None:
            return "", ""
        names = [graph.tensors[t].name for t in graph.ops[suspect.op].outputs]
        location = next((self.converted.locations[name] for name in names if name in self.converted.locations), "")
        return graph.describe(suspect.op), location


def _shaped(expected: Array, found: Bounded) -> Array:
    same_size = expected.size == found.value.size
    return expected.reshape(found.value.shape) if same_size else expected


def _by(verdict: Verdict) -> str:
    """How far, as the end of a sentence."""
    if math.isinf(verdict.max_abs):
        return ": it is infinite or has another shape"
    if math.isnan(verdict.max_abs):
        return ": it is NaN"
    explained = f"rounding explains {verdict.tolerance:.3g}" if verdict.tolerance else "rounding explains none of it"
    return f" by {verdict.max_abs:.3g} where {explained}"


def _cut_off(graph: Graph, index: int) -> bool:
    """Whether an op makes small integers of real numbers, as `(255 * y).to(torch.uint8)` does of -1."""
    op = graph.ops[index]
    ends = [graph.tensors[t] for t in (*op.inputs[:1], *op.outputs)]
    return op.kind == "CAST" and ends[0].is_float and ends[-1].dtype in ("uint8", "int8", "int16")
