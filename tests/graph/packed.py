"""TFLite files built and taken apart with the schema's own generated objects, without edgeqwt's reader and writer."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.graph.graph import Array


def pack(model: Any) -> bytes:
    """A file from a ModelT."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(data: bytes) -> Any:
    """The ModelT of a file, for changing it: numbers, lists and text, with nothing that points into the file."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


def tensor(name: str, shape: tuple[int, ...], dtype: str = "FLOAT32", buffer: int = 0, **fields: Any) -> Any:
    """A TensorT."""
    return schema.TensorT(name=name, shape=list(shape), type=getattr(schema.TensorType, dtype), buffer=buffer, **fields)


def op(code: int, inputs: list[int], outputs: list[int], options: Any = None, **fields: Any) -> Any:
    """An OperatorT; `code` is an index into the model's operator codes."""
    kind = type(options).__name__.removesuffix("T") if options is not None else "NONE"
    return schema.OperatorT(
        opcodeIndex=code,
        inputs=inputs,
        outputs=outputs,
        builtinOptionsType=getattr(schema.BuiltinOptions, kind),
        builtinOptions=options,
        **fields,
    )


def code(kind: str, version: int = 1, custom: str | None = None) -> Any:
    """An OperatorCodeT."""
    number = getattr(schema.BuiltinOperator, kind)
    return schema.OperatorCodeT(
        builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version, customCode=custom
    )


def subgraph(tensors: list[Any], ops: list[Any], inputs: list[int], outputs: list[int], name: str = "main") -> Any:
    """A SubGraphT."""
    return schema.SubGraphT(tensors=tensors, operators=ops, inputs=inputs, outputs=outputs, name=name)


def model(subgraphs: list[Any], codes: list[Any], constants: list[Array | None] | None = None, **fields: Any) -> Any:
    """A ModelT; buffer 0 is the empty one, constants[i] is buffer i + 1, None a buffer without bytes."""
    buffers = [schema.BufferT()]
    for array in constants or []:
        data = None if array is None else np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        buffers.append(schema.BufferT(data=data))
    return schema.ModelT(version=3, subgraphs=subgraphs, operatorCodes=codes, buffers=buffers, **fields)


def add_constant(value: Array, shape: tuple[int, ...], **tensor_fields: Any) -> Any:
    """A model that computes x + value; tensors are x, constant, y."""
    tensors = [tensor("x", shape), tensor("constant", value.shape, buffer=1, **tensor_fields), tensor("y", shape)]
    return model([subgraph(tensors, [op(0, [0, 1], [2], schema.AddOptionsT())], [0], [2])], [code("ADD")], [value])


def content(data: bytes) -> dict[str, Any]:
    """All that a file says, in a form that does not depend on the order of its buffers and operator codes."""
    packed = unpack(data)
    codes = [(c.builtinCode or c.deprecatedBuiltinCode, c.version, c.customCode) for c in packed.operatorCodes]
    buffers = [_bytes(b, data) for b in packed.buffers]
    found = _plain(packed)
    for sub in found["subgraphs"]:
        for o in sub["operators"] or []:
            o["opcodeIndex"] = codes[o["opcodeIndex"]]
        for t in sub["tensors"]:
            t["buffer"] = buffers[t["buffer"]]
            t["quantization"] = _quantization(t["quantization"])
    for entry in found["metadata"] or []:
        entry["buffer"] = buffers[entry["buffer"]]
    found["metadataBuffer"] = [buffers[i] for i in found["metadataBuffer"] or []]
    found["signatureDefs"] = found["signatureDefs"] or None
    del found["operatorCodes"], found["buffers"]
    return found


def _bytes(buffer: Any, data: bytes) -> bytes:
    if buffer.offset > 1:
        return data[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(buffer.data)


def _quantization(q: dict[str, Any] | None) -> dict[str, Any] | None:
    """Absent and empty lists say the same; so does no zero point and as many zeros as there are scales."""
    if q is None:
        return None
    q = {name: value for name, value in q.items() if name and value not in (None, [], 0)}
    if q.get("scale") and not any(q.get("zeroPoint", [])):
        q.pop("zeroPoint", None)
    return q or None


def _plain(value: Any) -> Any:
    """Nested objects as dicts and lists; texts as str; absent texts as empty ones."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "Pack"):
        texts = ("name", "description", "signatureKey")
        found = {k: _plain(v) for k, v in vars(value).items()}
        return {"": type(value).__name__} | {k: "" if v is None and k in texts else v for k, v in found.items()}
    return value
