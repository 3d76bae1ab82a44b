"""The degradation of the model's outputs by each layer's rounding, measured one layer at a time.

The float graph runs in LiteRT with one thing rounded: one layer's weights, put back as the real values
that their integers stand for, or one activation, by a QUANTIZE and a DEQUANTIZE. Errors of different
layers are nearly independent, so their squares add up (Dong et al. 2020, HAWQ-V2, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import slots
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.runtime.boundary import real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.spread import signal_of


def decision_tensors(graph: Graph) -> list[int]:
    """The tensors that decide a float graph's outputs: before a softmax or the like; constants do not count."""
    found = (before_saturation(graph, t)[0] for t in graph.outputs)
    return [t for t in dict.fromkeys(found) if not graph.tensors[t].is_constant]


def degradations(
    graph: Graph,
    variants: Sequence[Callable[[], Graph]],
    samples: Iterable[Mapping[int, Array]],
    on_variant: Callable[[int, int], None] = lambda done, total: None,
    threads: int = THREADS,
) -> list[float]:
    """Squared errors of variants of a float graph, relative to what varies between samples.

    Errors are summed over the graph's `decision_tensors`.

    Args:
        graph: float.
        variants: make graphs with the same inputs and outputs; called one after the other.
        samples: graph inputs by tensor index; kept, with what the graph makes of them.
        on_variant: called with (variants done, variants in all).
        threads: the result does not depend on it.

    Raises:
        InputError: there are no samples.
    """
    decisive = decision_tensors(graph)
    kept = list(samples)
    if not kept:
        raise InputError("there are no samples to measure sensitivity with", "Give some.")
    wanted = list(_outputs(graph, decisive, kept, threads))
    signal = [signal_of([found[k] for found in wanted]) for k in range(len(decisive))]
    results = []
    for done, variant in enumerate(variants, start=1):
        error = [0.0] * len(decisive)
        for found, reference in zip(_outputs(variant(), decisive, kept, threads), wanted, strict=True):
            error = [e + float(np.square(a - b).sum()) for e, a, b in zip(error, found, reference, strict=True)]
        results.append(sum(e / s for e, s in zip(error, signal, strict=True) if s > 0))
        on_variant(done, len(variants))
    return results


def _outputs(
    graph: Graph, decisive: Sequence[int], samples: Iterable[Mapping[int, Array]], threads: int
) -> Iterable[list[Array]]:
    def run(runner: Runner, sample: Mapping[int, Array]) -> list[Array]:
        found = {**sample, **runner.run(sample)}
        return [found[t].astype(np.float64) for t in decisive]

    computed = [t for t in decisive if t not in graph.inputs]
    return ordered([xnnpack(graph, computed) for _ in range(threads)], run, samples)


def with_rounded_weights(reference: Graph, weight: int, graph: Graph) -> Graph:
    """The float graph with one weight tensor as an integer graph has it, in real values.

    Args:
        reference: float.
        weight: tensor index there.
        graph: lowered from it, so that outputs have the same names.
    """
    op = next(op for op in reference.ops if weight in op.inputs)
    name = reference.tensors[op.outputs[0]].name
    counterpart = next(o for o in graph.ops if graph.tensors[o.outputs[0]].name == name)
    tensor = graph.tensors[slots(counterpart).weight]
    assert tensor.data is not None
    assert tensor.quantization is not None
    data = real(tensor.data, tensor.quantization)
    return reference.with_tensors({weight: replace(reference.tensors[weight], data=data)})


def with_rounded_activation(graph: Graph, tensor: int, q: Quantization, dtype: str = "int8") -> Graph:
    """`with_rounded_activations` of one."""
    return with_rounded_activations(graph, {tensor: (q, dtype)})


def with_rounded_activations(graph: Graph, rounded: Mapping[int, tuple[Quantization, str]]) -> Graph:
    """The float graph with some activations rounded to integers and back, for all that read them.

    The graph's tensors keep their indices; what has become of an output is read at its own.

    Args:
        graph: float.
        rounded: parameters and type of the integers, by tensor index.
    """
    tensors, exact, made = list(graph.tensors), dict[int, int](), dict[int, list[Op]]()
    for t, (q, dtype) in rounded.items():
        source, first = graph.tensors[t], len(tensors)
        tensors.append(Tensor(f"{source.name}/rounded", source.shape, dtype, None, q))
        tensors.append(
            Tensor(f"{source.name}/exact", source.shape, source.dtype, shape_signature=source.shape_signature)
        )
        # An input stays what it is; those that read it read the copy.
        before, after = (t, first + 1) if t in graph.inputs else (first + 1, t)
        made[t] = [Op("QUANTIZE", (before,), (first,)), Op("DEQUANTIZE", (first,), (after,), version=2)]
        exact[t] = first + 1
    ops = [op for t in graph.inputs for op in made.get(t, [])]
    inputs = {t: exact[t] for t in graph.inputs if t in exact}
    for op in graph.ops:
        read = tuple(inputs.get(t, t) for t in op.inputs)
        ops.append(replace(op, inputs=read, outputs=tuple(exact.get(t, t) for t in op.outputs)))
        ops += [new for t in op.outputs for new in made.get(t, [])]
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))
