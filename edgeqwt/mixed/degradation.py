"""The degradation of the model's outputs by each layer's rounding, measured one layer at a time.

The float graph runs in LiteRT with one thing rounded: one layer's weights, put back as the real values
that their integers stand for, or one activation, by a QUANTIZE and a DEQUANTIZE. Errors of different
layers are nearly independent, so their squares add up (Dong et al. 2020, HAWQ-V2, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.pairing import op_counterparts
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.verify.comparator import Comparator


def degradations(
    graph: Graph,
    variants: Sequence[Callable[[], Graph]],
    samples: Iterable[Mapping[int, Array]],
    on_variant: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Squared errors of variants of a float graph, relative to what varies between samples (`Comparator.noise`).

    Args:
        graph: float.
        variants: make graphs with the same inputs and outputs; called on several threads, one at a time on each.
        samples: graph inputs by tensor index; kept, with what the graph makes of them.
        on_variant: called with (variants done, variants in all).

    Raises:
        InputError: there are no samples.
    """
    threads = min(THREADS, max(1, len(variants)))  # a variant each: to load one takes as long as some samples
    results = []
    with Comparator(graph, samples, decision_tensors(graph)) as comparator:
        noise = partial(comparator.noise, threads=THREADS // threads)
        for found in ordered([noise] * threads, lambda noise, variant: noise(variant()), variants, window=1):
            results.append(found)
            on_variant(len(results), len(variants))
    return results


def with_rounded_weights(reference: Graph, weight: int, graph: Graph) -> Graph:
    """The float graph with one weight tensor as an integer graph has it, in real values.

    Args:
        reference: float.
        weight: tensor index there.
        graph: lowered from it, so that outputs have the same names.
    """
    i = next(i for i, op in enumerate(reference.ops) if weight in op.inputs)
    tensor = graph.tensors[slots(graph.ops[op_counterparts(reference, graph)[i]]).weight]
    data = tensor.real.astype(np.float32)
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
