"""The package for TFLite Micro: C++ sources for any project, and firmware that tests itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.profile import TargetProfile
from edgeqwt.target.package import sources
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.interface import write_interface
from edgeqwt.target.package.memory import measured_arena
from edgeqwt.target.package.resolver import methods
from edgeqwt.target.package.stripped import stripped
from edgeqwt.target.package.templates import write_tree
from edgeqwt.target.package.vectors import Vectors


def write(graph: Graph, profile: TargetProfile, folder: Path, vectors: Vectors, details: Details) -> tuple[str, ...]:
    """Writes README.md, io.json, model.tflite, the C++ component and the firmware project.

    Args:
        graph: what the device runs.
        profile: of the target.
        folder: exists.
        vectors: expected outputs of TFLite Micro.
        details: of the source model.

    Returns:
        Sentences that the user must see: what the model takes of the device's memory.

    Raises:
        UnsupportedError: TFLite Micro has no kernel for an op, or an input's type has no C++ type.
    """
    device = stripped(graph)
    found = methods(graph, profile.name)
    arena = measured_arena(device)
    flatbuffer.write(graph, folder / "model.tflite")
    write_interface(graph, details, vectors, folder, "model.tflite")
    values = sources.values(flatbuffer.to_bytes(device), graph, details, vectors, found, arena)
    whole = {"whole_size": str(len(flatbuffer.to_bytes(graph)))}
    write_tree("tflm", folder, {**values, **whole})
    write_tree("component", folder / details.name, values)
    return tuple(memory_sentences(arena.size, len(flatbuffer.to_bytes(device)), profile))


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
