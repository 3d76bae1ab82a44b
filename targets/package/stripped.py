"""The model without what only people and desktop tools read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES

# Metadata that TFLite Micro's memory planner and kernels read (micro_allocator.cc, micro_interpreter_context.cc).
NEEDED_METADATA = frozenset({"OfflineMemoryAllocation", "COMPRESSION_METADATA"})
_INFORMATIVE = frozenset({"min", "max"})
# They lead to metadata, which is left out.
_POINTERS = frozenset({"debugMetadataIndex", "metadataBuffer"})


def stripped(graph: Graph) -> Graph:
    """A graph that computes the same with the same ops in fewer bytes, for TFLite Micro.

    Left out are names, descriptions, signatures, metadata that the interpreter does not read, records of
    dynamic shapes, observed ranges, and the scales of biases of per-channel convolutions: those kernels
    derive them from the input's scale and the weights'. LiteRT and Vela may want any of these: give them
    the whole file.
    """
    without = _unread_bias_scales(graph)
    tensors = tuple(
        replace(
            tensor,
            name="",
            shape_signature=None,
            quantization=None if t in without else tensor.quantization,
            extra=_without(tensor.extra, _INFORMATIVE),
        )
        for t, tensor in enumerate(graph.tensors)
    )
    return replace(
        graph,
        tensors=tensors,
        name="",
        description="",
        signatures=(),
        metadata={k: v for k, v in graph.metadata.items() if k in NEEDED_METADATA},
        others=tuple(stripped(other) for other in graph.others),
        ops=tuple(replace(op, extra=_without(op.extra, _POINTERS)) for op in graph.ops),
        extra=_without(graph.extra, _POINTERS),
    )


def _without(extra: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name not in names}


def _unread_bias_scales(graph: Graph) -> set[int]:
    """Biases that only per-channel convolutions read. FULLY_CONNECTED checks its bias's scale, so it keeps it."""
    read = {t for op in graph.ops for slot, t in enumerate(op.inputs) if t >= 0 and slot != _bias_slot(graph, op)}
    biases = {op.inputs[slot] for op in graph.ops if (slot := _bias_slot(graph, op)) is not None}
    return biases - read - {*graph.inputs, *graph.outputs}


def _bias_slot(graph: Graph, op: Op) -> int | None:
    """The input slot of a per-channel convolution's bias."""
    rule = RULES.get(op.kind)
    if rule is None or rule.bias is None or rule.weight is None or op.kind == "FULLY_CONNECTED":
        return None
    if len(op.inputs) <= rule.bias or op.inputs[rule.bias] < 0:
        return None
    weights = graph.tensors[op.inputs[rule.weight]].quantization
    return rule.bias if weights is not None and weights.axis is not None else None
