"""The user's own metric, for every variant of the model, in the interpreter that phones run.

A metric is a function `metric(outputs, extras)`:

- `outputs`: output name to an array of all samples' outputs, in the source model's layout, as real
  values; what has shape (1, ...) for one sample has shape (samples, ...).
- `extras`: the same for every array of the evaluation data that is no input of the model, such as
  `labels`.

It returns one number, or a dict of numbers by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeqwt.calibration.binding import LABEL_NAMES, LABELS, label_name
from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.calibration.validate import conform, named
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.loading import calling, load_callable
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.feeds import feed, output_tensor

Metric = Callable[[dict[str, Array], dict[str, Array]], Any]

TOP1 = "top1"
FEW = 8
"""Samples on which a metric is tried."""


@dataclass(frozen=True)
class Evaluation:
    """A metric, and the data that it judges on.

    Attributes:
        name: of the metric, for messages and where it returns one number.
        metric: see the module's text.
        samples: inputs by name, checked, and any further arrays.
        inputs: names of the model's inputs; what else a sample has are extras.
    """

    name: str
    metric: Metric
    samples: Samples
    inputs: tuple[str, ...]


def check_metric(data: Samples, metric: str | Metric | None) -> None:
    """Finds out before the conversion what would keep the metric from being computed after it.

    Args:
        data: the evaluation samples; the first one is read.
        metric: as for `open_evaluation`.

    Raises:
        InputError: the function cannot be had, or "top1" has no labels, or labels that are no integers.
    """
    if _metric(metric)[1] is not top1:
        return
    first = data.first()
    key = label_name(first)
    if key is None:
        raise _no_labels(first)
    kind = np.asarray(first[key]).dtype
    if kind.kind not in "iu":
        raise InputError(
            f"metric {TOP1!r}: {key!r} of {data.origin} is of {kind}", "Give the classes as integers, from 0."
        )


def _no_labels(given: Iterable[str]) -> InputError:
    listed = ", ".join(repr(name) if name else "one without a name" for name in given) or "none"
    return InputError(
        f"metric {TOP1!r} needs an array {LABELS!r} in the evaluation data; arrays there: {listed}",
        "Add the class of each sample as labels, or give --metric file.py:function.",
    )


def open_evaluation(source: Source, metric: str | Metric | None, converted: ConvertedModel) -> Evaluation:
    """Evaluation data and a metric from what the user names.

    Args:
        source: as for calibration, with any further arrays for the metric beside the model's inputs.
        metric: "top1" (the default), "file.py:function", "package.module:function", or a function.
        converted: the model.

    Raises:
        InputError: the data or the function cannot be had.
    """
    data = open_samples(source)
    specs = tuple(binding.spec for binding in converted.inputs)
    name, function = _metric(metric)
    return Evaluation(name, function, with_extras(data, specs), tuple(spec.name for spec in specs))


def evaluate(
    evaluation: Evaluation,
    converted: ConvertedModel,
    graphs: Mapping[str, Graph],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float]]:
    """Variant name to metric name to value; the data is read once for all variants.

    All outputs of all samples are held, as the metric sees them at once.

    Args:
        evaluation: metric and data.
        converted: names, order and layout of inputs and outputs.
        graphs: float or integer graphs by the name of the variant, each with converted.graph's
            inputs and outputs in its order.
        threads: with one interpreter per graph each.
        on_sample: called after each sample.

    Raises:
        InputError: the data is empty or not what the model expects; the metric raises or returns
            something else than numbers.
        ToolError: LiteRT refuses a graph.
    """
    workers = [{name: xnnpack(graph) for name, graph in graphs.items()} for _ in range(threads)]

    def work(runners: Mapping[str, Runner], sample: Sample) -> tuple[Sample, dict[str, dict[str, Array]]]:
        found = {name: _run(converted, graphs[name], runner, sample) for name, runner in runners.items()}
        return {k: v for k, v in sample.items() if k not in evaluation.inputs}, found

    extras: list[Sample] = []
    outputs: dict[str, list[dict[str, Array]]] = {name: [] for name in graphs}
    for extra, found in ordered(workers, work, evaluation.samples):
        extras.append(extra)
        for name, arrays in found.items():
            outputs[name].append(arrays)
        on_sample()
    if not extras:
        raise InputError(f"{evaluation.samples.origin} has no samples", "Give at least one to evaluate on.")
    # The metric may write to what it is given, so each variant gets arrays of its own.
    return {name: _scores(evaluation, stacked(outputs[name]), stacked(extras)) for name in graphs}


def try_metric(evaluation: Evaluation, converted: ConvertedModel) -> None:
    """Computes the metric of the float model once, so that what is wrong with it shows before the quantization.

    Raises:
        InputError: as `evaluate` does.
    """
    graphs = {"float": converted.graph}
    few = replace(evaluation, samples=evaluation.samples.head(FEW))
    try:
        evaluate(few, converted, graphs)
    except InputError:
        if evaluation.metric is top1:
            raise
        evaluate(evaluation, converted, graphs)  # some need more than a few samples: one of each class, say


def top1(outputs: Mapping[str, Array], extras: Mapping[str, Array]) -> float:
    """Share of rows whose largest element of the first output is the one that `labels` says.

    Classes lie along the last axis. Where only that fits the labels they lie along the second one, as torch's
    `cross_entropy` has them: one label for each pixel, say.

    Raises:
        InputError: there are no labels, or they do not fit the output.
    """
    key = next((name for name in LABEL_NAMES if name in extras), None)
    if key is None:
        raise _no_labels(extras)
    name, values = next(iter(outputs.items()))
    labels = extras[key]
    if values.ndim > 2 and labels.shape == (values.shape[0], *values.shape[2:]) != values.shape[:-1]:
        values = np.moveaxis(values, 1, -1)
    if values.ndim < 2 or labels.size != values[..., 0].size or labels.dtype.kind not in "iu":
        raise InputError(
            f"metric {TOP1!r}: {LABELS!r} ({labels.dtype}, shape {labels.shape}) does not fit output {name!r} of shape "
            f"{values.shape}",
            "Give one integer for each row of classes: the class of a sample or, of dense outputs, of each pixel. Or "
            "--metric file.py:function.",
        )
    if labels.min() < 0 or labels.max() >= values.shape[-1]:
        raise InputError(
            f"metric {TOP1!r}: {LABELS!r} go from {labels.min()} to {labels.max()}, but output {name!r} has "
            f"{values.shape[-1]} classes",
            "Number the classes from 0, in the order of the output.",
        )
    return float((values.argmax(axis=-1).ravel() == labels.ravel()).mean())


def stacked(samples: list[Any]) -> dict[str, Array]:
    """Per-sample arrays as one array per name: joined along a batch axis of 1, else along a new first axis."""
    result: dict[str, Array] = {}
    for name in samples[0]:
        arrays = [np.asarray(sample[name]) for sample in samples]
        batched = arrays[0].ndim > 0 and arrays[0].shape[0] == 1
        result[name] = np.concatenate(arrays) if batched else np.stack(arrays)
    return result


def _metric(metric: str | Metric | None) -> tuple[str, Metric]:
    if metric is None or metric == TOP1:
        return TOP1, top1
    if isinstance(metric, str):
        if ":" not in metric:
            raise InputError(f"there is no metric {metric!r}", f"Write {TOP1} or file.py:function.")
        function = load_callable(metric, "metric")
        return metric.rpartition(":")[2], calling(function, f"metric {metric}")
    name = getattr(metric, "__name__", type(metric).__name__)
    return name, calling(metric, f"metric {name}")


def with_extras(samples: Samples, specs: tuple[InputSpec, ...]) -> Samples:
    """The samples with inputs as the model expects them, and everything else as it is."""
    names = [spec.name for spec in specs]

    def read() -> Iterator[Sample]:
        first: set[str] | None = None
        for index, sample in enumerate(named(samples, names)):
            missing = [name for name in names if name not in sample]
            first = set(sample) if first is None else first
            if missing or set(sample) != first:
                lost = ", ".join(map(repr, missing or sorted(first ^ set(sample))))
                raise InputError(
                    f"{samples.origin}: sample {index} of the evaluation data lacks {lost}",
                    f"The model's inputs are: {', '.join(map(repr, names))}; other arrays go to the metric.",
                )
            origin = f"{samples.origin}: sample {index}"
            inputs = {s.name: conform(sample[s.name], s, f"{origin}: input {s.name!r}") for s in specs}
            yield {**sample, **inputs}

    return Samples(samples.origin, read, samples.count)


def _run(converted: ConvertedModel, graph: Graph, runner: Runner, sample: Sample) -> dict[str, Array]:
    fed = graph_feed(graph, feed(converted, graph, sample))
    found = {**fed, **runner.run(fed)}
    tensors = [(binding, output_tensor(converted, graph, binding)) for binding in converted.outputs]
    return {binding.spec.name: binding.to_source(to_real(graph, t, found[t])) for binding, t in tensors}


def _scores(evaluation: Evaluation, outputs: dict[str, Array], extras: dict[str, Array]) -> dict[str, float]:
    value = evaluation.metric(outputs, extras)
    by_name = value if isinstance(value, Mapping) else {evaluation.name: value}
    scores = {}
    for name, number in by_name.items():
        scalar = np.asarray(number)
        if not isinstance(name, str) or scalar.size != 1 or scalar.dtype.kind not in "biuf":
            raise InputError(
                f"metric {evaluation.name} returned {_kind(number)}" + (f" for {name!r}" if by_name is value else ""),
                "Return one number, or a dict of numbers by name.",
            )
        scores[name] = float(scalar.item())
    return scores


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"
