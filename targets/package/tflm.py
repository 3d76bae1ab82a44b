"""The package for TFLite Micro: C++ sources for any project, and firmware that tests itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeqwt.errors import InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lookup_weights import with_lookup_tables
from edgeqwt.profile import TargetProfile
from edgeqwt.runtime.subprocess_runners import micro_host
from edgeqwt.target.package import sources
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.interface import write_interface
from edgeqwt.target.package.memory import measured_arena
from edgeqwt.target.package.resolver import methods
from edgeqwt.target.package.stripped import stripped
from edgeqwt.target.package.templates import write_tree
from edgeqwt.target.package.vectors import Vectors


def write(
    graph: Graph, profile: TargetProfile, folder: Path, vectors: Vectors, details: Details, compress: bool = False
) -> tuple[str, ...]:
    """Writes README.md, io.json, model.tflite, the C++ component and the firmware project.

    Args:
        graph: what the device runs.
        profile: of the target.
        folder: exists.
        vectors: expected outputs of TFLite Micro.
        details: of the source model.
        compress: whether the firmware's model has weights behind lookup tables, where that takes fewer bytes.

    Returns:
        Sentences that the user must see: what the model takes of the device's memory.

    Raises:
        UnsupportedError: TFLite Micro has no kernel for an op, or an input's type has no C++ type.
    """
    whole = stripped(graph)
    device = _compressed(whole, vectors) if compress else whole
    found = methods(device, profile.name)
    arena, content = measured_arena(device), flatbuffer.to_bytes(device)
    flatbuffer.write(graph, folder / "model.tflite")
    write_interface(graph, details, vectors, folder, "model.tflite")
    values = sources.values(content, graph, details, vectors, found, arena)
    write_tree("tflm", folder, {**values, "whole_size": str(len(flatbuffer.to_bytes(graph)))})
    write_tree("component", folder / details.name, values)
    compressed = _compression_sentences(whole, device, len(content), arena.size) if compress else ()
    return (*compressed, *memory_sentences(arena.size, len(content), profile))


def _compressed(device: Graph, vectors: Vectors) -> Graph:
    """The model with weights behind lookup tables; itself where that saves nothing.

    Raises:
        InterpreterError: TFLite Micro refuses it.
        InvariantError: it gives other bytes than the test vectors.
    """
    packed, count = with_lookup_tables(device)
    if not count:
        return device
    runner = micro_host().runner("tflm", packed)
    for vector in vectors.items:
        found = runner.run(dict(zip(packed.inputs, vector.inputs, strict=True)))
        for t, expected in zip(packed.outputs, vector.outputs, strict=True):
            if not np.array_equal(found[t], expected):
                raise InvariantError("the model with lookup tables gives other bytes in TFLite Micro than without")
    return packed


def _compression_sentences(whole: Graph, device: Graph, size: int, arena: int) -> Iterator[str]:
    """What lookup tables save and cost.

    Args:
        whole: without them.
        device: with them.
        size: bytes of the latter's file.
        arena: of the latter.
    """
    count = len(device.ops) - len(whole.ops)  # an op for each weight
    if not count:
        yield "No weight takes fewer bytes behind a lookup table: 4-bit or clustered weights do."
        return
    yield (
        f"{count} weights are behind lookup tables: {size:,} bytes of flash in place of "
        f"{len(flatbuffer.to_bytes(whole)):,}, {arena:,} bytes of arena in place of {measured_arena(whole).size:,}. "
        "Each run unpacks them; outputs stay."
    )


def memory_sentences(arena: int, model: int, profile: TargetProfile) -> Iterator[str]:
    """What a model takes, and whether that is more than the profile's typical board has.

    Args:
        arena: bytes of RAM.
        model: bytes of flash.
        profile: of the target.
    """
    yield f"The arena takes {arena:,} bytes of RAM, the model {model:,} bytes of flash; code comes on top."
    for what, taken in (("ram", arena), ("flash", model)):
        there = profile.limits.get(what)
        if isinstance(there, int) and taken > there:
            yield f"That is more than a typical board's {there:,} bytes: name yours with --{what}."
