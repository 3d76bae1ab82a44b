"""Which graph tensor carries which input and output of the source, and in which layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converted import Binding
from edgeqwt.converters.onnx2tf_tool import spelled
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack

Permutation = tuple[int, ...] | None
CLOSE = 1e-2
"""Error relative to the largest value up to which a layout is taken for the right one: far above what float32
sums differ by, far below the error of a wrong layout (about 1)."""


def bind(
    graph: Graph,
    inputs: Sequence[InputSpec],
    sample: Sample,
    outputs: Mapping[str, Array],
    moved_in: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
    moved_out: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> tuple[tuple[Binding, ...], tuple[Binding, ...]]:
    """Binds a source's inputs and outputs to the graph that was made from it.

    Where the shapes leave several layouts open (16x16x16 may be NCHW or NHWC), the one
    that computes the source's outputs best on the sample is taken.

    Args:
        graph: the converted graph.
        inputs: the source's, in its order.
        sample: one sample in the source's layout.
        outputs: what the source computes on it, in its order, by name.
        moved_in: the layout of inputs where it is known: graph tensor to the axes to transpose the source's array by.
        moved_out: the same of outputs.

    Returns:
        The bindings of the inputs and of the outputs, in the source's order.

    Raises:
        InputError: an input has no effect on the outputs, or a shape does not fit at all.
    """
    ins = [(spec, _find(graph, graph.inputs, spec.name, i, len(inputs))) for i, spec in enumerate(inputs)]
    output_specs = [InputSpec(name, a.shape, a.dtype.name) for name, a in outputs.items()]
    outs = [(s, _find(graph, graph.outputs, s.name, i, len(outputs))) for i, s in enumerate(output_specs)]
    choices = [_choices(graph, spec, t, "input", moved_in) for spec, t in ins]
    choices += [_choices(graph, spec, t, "output", moved_out) for spec, t in outs]
    if all(len(options) == 1 for options in choices):
        best = tuple(options[0] for options in choices)
    else:
        best = _closest(graph, choices, len(ins), sample, outputs)
    return best[: len(ins)], best[len(ins) :]


def layouts(source: Sequence[int], shape: Sequence[int]) -> list[Permutation]:
    """The ways to get from a source shape to a graph shape, the likeliest first; none when nothing fits.

    Converters keep a layout, or move the channels to the end (inputs), or to the front.
    """
    rank = len(source)
    last = (0, *range(2, rank), 1)
    first = (0, rank - 1, *range(1, rank - 1))
    options: list[Permutation] = []
    if rank == len(shape) and rank > 2:
        moved = dict.fromkeys((last, first))
        options += [p for p in moved if tuple(source[a] for a in p) == tuple(shape)]
    if tuple(source) == tuple(shape):
        options.append(None)
    elif not options and np.prod(source) == np.prod(shape):
        options.append(None)  # a dimension of 1 more or less
    # Moving dimensions of size 1 about changes nothing: no need to ask which of them it was.
    if None in options and sum(size != 1 for size in source) <= 1:
        return [None]
    return options


def describe(binding: Binding, graph: Graph, kind: str) -> str | None:
    """A sentence for the report on what changed about an input or output, or None."""
    tensor, spec = graph.tensors[binding.tensor], binding.spec
    changes = []
    if binding.permutation is not None:
        changes.append(_moved(spec.shape, tensor.shape, binding.permutation))
    elif tensor.shape != spec.shape:
        changes.append(f"{spec.shape} became {tensor.shape}")
    if tensor.dtype != spec.dtype:
        changes.append(f"{spec.dtype} became {tensor.dtype}")
    if tensor.name not in (spec.name, spelled(spec.name)):
        changes.append(f"is called {tensor.name!r}")
    return f"{kind} {spec.name!r} {', '.join(changes)}" if changes else None


def changes(graph: Graph, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> Iterator[str]:
    """What changed about the inputs and outputs, as sentences for the report."""
    for kind, bindings in (("input", inputs), ("output", outputs)):
        for binding in bindings:
            sentence = describe(binding, graph, kind)
            if sentence:
                yield sentence


# -- details ---------------------------------------------------------------------


def _moved(source: Sequence[int | None], shape: tuple[int, ...], permutation: tuple[int, ...]) -> str:
    rank = len(shape)
    letters = {3: "NCW", 4: "NCHW", 5: "NCDHW"}.get(rank, "")
    before, after = letters, letters and f"{letters[0]}{letters[2:]}C"
    if rank > 3 and permutation == (0, rank - 1, *range(1, rank - 1)):  # of lines both directions are the same
        before, after = after, before
    return f"{tuple(source)} {before} became {shape} {after}".replace("  ", " ").rstrip()


def _choices(
    graph: Graph, spec: InputSpec, tensor: int | None, kind: str, moved: Mapping[int, tuple[int, ...]]
) -> list[Binding]:
    if tensor is None:
        lost = "has no effect on the outputs" if kind == "input" else "was lost in the conversion"
        raise InputError(
            f"{kind} {spec.name!r} {lost}", "Wrap the model in one that takes and returns only what it computes with."
        )
    if 0 in spec.shape:
        raise InputError(f"{kind} {spec.name!r} has shape {spec.shape}: it holds nothing", "Leave it out of the model.")
    if tensor in moved:
        return [Binding(spec, tensor, moved[tensor])]
    found = [Binding(spec, tensor, p) for p in layouts(_static(spec), graph.tensors[tensor].shape)]
    if not found:
        raise InputError(
            f"{kind} {spec.name!r} has shape {spec.shape} in the source, {graph.tensors[tensor].shape} when converted",
            "If the shape depends on the input's values, cut the model before the op that selects data; "
            "otherwise please report it with the model.",
        )
    return found


def _static(spec: InputSpec) -> tuple[int, ...]:
    return tuple(size or 1 for size in spec.shape)


def _find(graph: Graph, among: Sequence[int], name: str, position: int, count: int) -> int | None:
    """By name; by position where no name of the source survived."""
    for t in among:
        if graph.tensors[t].name in (name, spelled(name)):
            return t
    for signature in graph.signatures:
        for key, t in (*signature.inputs, *signature.outputs):
            if key in (name, spelled(name)) and t in among:
                return t
    return among[position] if len(among) == count else None


def _closest(
    graph: Graph, choices: Sequence[Sequence[Binding]], inputs: int, sample: Sample, outputs: Mapping[str, Array]
) -> tuple[Binding, ...]:
    runner = xnnpack(graph)
    best: tuple[float, tuple[Binding, ...]] | None = None
    for ins in _combinations(choices[:inputs]):
        values = runner.run({b.tensor: b.to_graph(np.asarray(sample[b.spec.name]), graph) for b in ins})
        outs, total = [], 0.0
        for options in choices[inputs:]:
            errors = [_error(b.to_source(values[b.tensor]), outputs[b.spec.name]) for b in options]
            outs.append(options[int(np.argmin(errors))])
            total += min(errors)
        if best is None or total < best[0]:
            best = total, (*ins, *outs)
    assert best is not None  # every input has a choice
    # Where no layout gives the source's outputs the conversion is wrong, and the least wrong layout
    # means nothing: it would only put the blame on the first op.
    return best[1] if best[0] <= CLOSE * len(outputs) else tuple(options[0] for options in choices)


def _combinations(choices: Sequence[Sequence[Binding]]) -> Iterator[tuple[Binding, ...]]:
    """All at once up to 6 open inputs; beyond that the likeliest layout of each."""
    if np.prod([len(options) for options in choices], dtype=float) > 3**6:
        return iter([tuple(options[0] for options in choices)])
    return product(*choices)


def _error(value: Array, expected: Array) -> float:
    """Largest difference, relative to the largest expected value; infinite for NaN."""
    a, b = value.reshape(expected.shape).astype(np.float64), expected.astype(np.float64)
    if not a.size:
        return 0.0
    error = float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-30))
    return np.inf if np.isnan(error) else error
