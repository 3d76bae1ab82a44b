"""io.json: what goes into the model and comes out, for people who write the code around it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.runtime.boundary import described
from edgeqwt.target.package.details import Details, Port
from edgeqwt.target.package.vectors import RUNTIME_TITLES, Vectors

SCHEMA = "edgeqwt.io"
INTEGER_FROM_REAL = (
    "integer = clamp(round(real / scale) + zero_point, lowest, highest), in float32, halves away from zero"
)
REAL_FROM_INTEGER = "real = scale * (integer - zero_point)"
STATE = "after each run copy the bytes of an output with a state to the input that it names; real zeros to begin with"
SOURCE_FROM_REAL = (
    "what the source model takes = factor * real + shift, per channel or column, which lie along `axis` of the tensor; "
    "null: real itself. The file has that inside."
)
LAYOUT = "axis k of the tensor is axis permutation[k] of the source model's array; null where they have the same layout"


def document(graph: Graph, details: Details, vectors: Vectors, model: str) -> dict[str, Any]:
    """The inputs and outputs of a packaged model, as what JSON can hold.

    Args:
        graph: of the file.
        details: of the source model.
        vectors: written by `write_vectors`.
        model: the .tflite file's name; empty where the package has none.
    """
    return {
        "schema": SCHEMA,
        "version": 1,
        "model": model or None,
        "origin": details.origin or None,
        "integer_from_real": INTEGER_FROM_REAL,
        "real_from_integer": REAL_FROM_INTEGER,
        "layout": LAYOUT,
        "state": STATE if any(port.state for port in details.inputs) else None,
        "inputs": [_port(p, graph.tensors[t]) for p, t in zip(details.inputs, graph.inputs, strict=True)],
        "outputs": [_port(p, graph.tensors[t]) for p, t in zip(details.outputs, graph.outputs, strict=True)],
        "signatures": _signatures(graph, details) or None,
        "constants": [asdict(constant) for constant in details.constants],
        "joined": [{"name": j.name, "axis": j.axis, "parts": list(j.parts)} for j in details.joined],
        "source_from_real": SOURCE_FROM_REAL,
        "vectors": {
            "expected_from": RUNTIME_TITLES[vectors.runtime],
            "inputs": "random integers" if vectors.random else "samples given to the build",
            "files": [
                {
                    "inputs": [_vector_name(i, "input", k) for k in range(len(vector.inputs))],
                    "outputs": [_vector_name(i, "output", k) for k in range(len(vector.outputs))],
                }
                for i, vector in enumerate(vectors.items)
            ],
        },
    }


def _signatures(graph: Graph, details: Details) -> list[dict[str, Any]]:
    """Which signature serves which values of an input, with its own scales; nothing where the file has one for all."""
    parts = {s.key: part for part in (graph, *graph.others) for s in part.signatures}
    return [
        {
            "signature": found.signature,
            "input": found.input,
            "lowest": found.lowest,
            "below": found.below,
            "inputs": [_port(p, part.tensors[t]) for p, t in zip(details.inputs, part.inputs, strict=True)],
            "outputs": [_port(p, part.tensors[t]) for p, t in zip(details.outputs, part.outputs, strict=True)],
        }
        for found in details.selections
        for part in [parts[found.signature]]
    ]


def write_interface(graph: Graph, details: Details, vectors: Vectors, folder: Path, model: str) -> None:
    """Writes io.json, and the test vectors as raw little-endian files below vectors/."""
    found = document(graph, details, vectors, model)
    (folder / "vectors").mkdir(exist_ok=True)
    for files, vector in zip(found["vectors"]["files"], vectors.items, strict=True):
        for names, arrays in ((files["inputs"], vector.inputs), (files["outputs"], vector.outputs)):
            for name, array in zip(names, arrays, strict=True):
                (folder / name).write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    text = json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "io.json").write_text(text + "\n", encoding="utf-8")


def _vector_name(index: int, what: str, position: int) -> str:
    return f"vectors/{index}_{what}_{position}.bin"


def _axis(shape: tuple[int, ...]) -> int:
    """The axis of the file's tensor along which factors lie: the one that is not 1, else the last."""
    return next((k for k, size in enumerate(shape) if size > 1), len(shape) - 1)


def _port(port: Port, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": port.name,
        "tensor": tensor.name,
        **described(tensor),
        "source": {
            "shape": list(port.shape),
            "permutation": None if port.permutation is None else list(port.permutation),
            "factor": None if port.affine is None else [float(v) for v in port.affine.factor.reshape(-1)],
            "axis": None if port.affine is None else _axis(port.affine.factor.shape),
            "shift": None if port.affine is None else [float(v) for v in port.affine.shift.reshape(-1)],
        },
        "state": port.state or None,
    }
