"""The package for LiteRT: the file as it is, io.json and test vectors."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.output import markdown, markdown_code
from edgeqwt.target.package.details import Details
from edgeqwt.target.package.interface import write_interface
from edgeqwt.target.package.templates import rendered
from edgeqwt.target.package.vectors import RUNTIME_TITLES, Vectors

MODEL = "model.tflite"


def write(graph: Graph, folder: Path, vectors: Vectors, details: Details) -> None:
    """Writes README.md, model.tflite, io.json and vectors/.

    Args:
        graph: what the device runs; metadata and signatures are kept.
        folder: exists.
        vectors: expected outputs of LiteRT.
        details: of the source model.
    """
    size = flatbuffer.write(graph, folder / MODEL)
    write_interface(graph, details, vectors, folder, MODEL)
    values = {
        "origin": markdown(details.origin) or "The model's origin is not known.",
        "size": str(size),
        "signature": _signature(graph),
        "count": str(len(vectors.items)),
        "runtime": RUNTIME_TITLES[vectors.runtime],
        "inputs": "random integers" if vectors.random else "samples given to the build",
    }
    (folder / "README.md").write_text(rendered("tflite/README.md", values), encoding="utf-8")


def _signature(graph: Graph) -> str:
    if not graph.signatures:
        return "It has no signature: inputs and outputs go by their order."
    keys = [f"`{markdown_code(s.key)}`" for part in (graph, *graph.others) for s in part.signatures]
    if len(keys) > 1:
        return f"The model has the signatures {', '.join(keys)}: `io.json` says which one serves which values."
    return (
        f"The model's signature is `{markdown_code(graph.signatures[0].key)}`."
        if graph.signatures[0].key
        else ("The model's signature has no name: APIs that ask for one take the empty string, or none.")
    )
