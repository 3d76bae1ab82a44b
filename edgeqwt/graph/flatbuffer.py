"""Bytes <-> Graph, and nothing else.

Reading keeps everything: all subgraphs, signatures, metadata, buffers inside the
flatbuffer or behind it. What cannot be kept (sparse tensors, external buffer files,
block-wise quantization) is refused with a reason. Names that are not UTF-8 are kept with
replacement characters. Writing aligns every buffer to 16 bytes, as the kernels of
microcontrollers need, and writes an array that several tensors share, and equal zero points or shapes, once.

`schema`, `reader` and `writer` are the only modules that know the TFLite schema.
"""

from __future__ import annotations

from pathlib import Path

from edgeqwt.disk import write_whole
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.reader import graph_from_bytes
from edgeqwt.graph.writer import bytes_from_graph
from edgeqwt.regular_files import regular


def read(path: Path) -> Graph:
    """The model in a .tflite file.

    Raises:
        InputError: the file is missing, is a folder, is no readable TFLite model, or holds
            something that edgeqwt cannot carry through.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a .tflite file", "Name the model file inside it.")
    try:
        data = regular(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    return from_bytes(data, str(path))


def read_open(path: Path) -> tuple[Graph, int]:
    """A model some of whose activations nothing writes: they are inputs of the graph, behind its own.

    Returns:
        The graph, and how many inputs are its own.

    Raises:
        InputError: as `read`.
    """
    return graph_from_bytes(regular(path).read_bytes(), str(path), open_ends=True)


def from_bytes(data: bytes, origin: str = "model") -> Graph:
    """The model in a flatbuffer; `origin` names it in messages. Constants are read-only views of `data`.

    Raises:
        InputError: the bytes are no TFLite model, are damaged, or hold something that edgeqwt
            cannot carry through.
    """
    return graph_from_bytes(data, origin)[0]


def from_own_bytes(data: bytes) -> Graph:
    """What `to_bytes` wrote of a graph of our own, some of whose shapes may not be known yet."""
    return graph_from_bytes(data, "model", demanding=False)[0]


def write(graph: Graph, path: Path) -> int:
    """Writes a .tflite file whole or not at all, and returns its size in bytes.

    Raises:
        InputError: the path cannot be written to, the disk is full, or the model is larger
            than a flatbuffer can be.
    """
    data = to_bytes(graph)
    write_whole(path, data)
    return len(data)


def to_bytes(graph: Graph) -> bytes:
    """The graph as a TFLite flatbuffer; the same graph gives the same bytes.

    Raises:
        InputError: the model is larger than a flatbuffer can be.
    """
    return bytes_from_graph(graph)
