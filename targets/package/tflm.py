"""The package for TFLite Micro: C++ sources for any project, and firmware that tests itself."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.targets.package import sources
from edgeqwt.targets.package.details import Details
from edgeqwt.targets.package.interface import write_interface
from edgeqwt.targets.package.memory import measured_arena
from edgeqwt.targets.package.resolver import methods
from edgeqwt.targets.package.stripped import stripped
from edgeqwt.targets.package.templates import write_tree
from edgeqwt.targets.package.vectors import Vectors


def write(graph: Graph, target: str, folder: Path, vectors: Vectors, details: Details) -> None:
    """Writes README.md, io.json, model.tflite, the C++ component and the firmware project.

    Args:
        graph: what the device runs.
        target: name of the target, for messages.
        folder: exists.
        vectors: expected outputs of TFLite Micro.
        details: of the source model.

    Raises:
        UnsupportedError: TFLite Micro has no kernel for an op, or an input's type has no C++ type.
    """
    device = stripped(graph)
    found = methods(graph, target)
    arena = measured_arena(device)
    flatbuffer.write(graph, folder / "model.tflite")
    write_interface(graph, details, vectors, folder, "model.tflite")
    values = sources.values(flatbuffer.to_bytes(device), graph, details, vectors, found, arena)
    whole = {"whole_size": str(len(flatbuffer.to_bytes(graph)))}
    write_tree("tflm", folder, {**values, **whole})
    write_tree("component", folder / details.name, values)
