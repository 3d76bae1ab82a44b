"""Bytes <-> Graph, and nothing else: the only module that knows the TFLite schema.

Reading keeps everything: all subgraphs, signatures, metadata, buffers inside
the flatbuffer or behind it. What cannot be kept (sparse tensors, external
buffer files) is refused with a reason. Writing aligns every buffer to 16
bytes, as the kernels of microcontrollers need, and writes an array that
several tensors share once.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Quantization, Signature, Tensor

IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # schema.fbs: `data:[ubyte] (force_align: 16)`

# Option fields that hold an enum, and the enum's name in the schema.
ENUM_FIELDS = {
    "fusedActivationFunction": "ActivationFunctionType",
    "padding": "Padding",
    "weightsFormat": "FullyConnectedOptionsWeightsFormat",
    "inDataType": "TensorType",
    "outDataType": "TensorType",
    "quantizedBiasType": "TensorType",
    "outputType": "TensorType",
    "outType": "TensorType",
    "idxOutType": "TensorType",
}

# The options table of each kind of op that edgeqwt itself creates.
OPTIONS_TYPES = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "CAST": "CastOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "GATHER": "GatherOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "RSQRT": "",
    "RELU": "",
}


# -- reading -----------------------------------------------------------------------


def read(path: Path) -> Graph:
    """The model in a .tflite file.

    Raises:
        InputError: the file is missing, is a folder, or is not a readable TFLite model.
        UnsupportedError: the model holds something that edgeqwt cannot carry through.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a .tflite file", "Name the model file inside it.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return from_bytes(data, str(path))


def from_bytes(data: bytes, origin: str = "model") -> Graph:
    """The model in a flatbuffer; `origin` names it in messages.

    Raises:
        InputError: the bytes are no TFLite model, or are cut off.
        UnsupportedError: the model holds something that edgeqwt cannot carry through.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise InputError(f"{origin} is not a TFLite model", "A .tflite file has the letters TFL3 at byte 4.")
    try:
        model = _schema().ModelT.InitFromPackedBuf(data, 0)
        return _Reader(data, model).graph()
    except (UnsupportedError, InputError):
        raise
    except Exception as error:  # the generated reader raises whatever a broken offset leads to
        raise InputError(
            f"{origin} is damaged: {type(error).__name__} while reading it", "It may be cut off: copy or export it again."
        ) from None


class _Reader:
    """Turns the schema's objects into a Graph; arrays are views of the file's bytes."""

    def __init__(self, data: bytes, model: Any) -> None:
        self.data, self.model = data, model
        self.arrays: dict[tuple[int, str, tuple[int, ...]], Array] = {}
        if model.externalBuffers:
            raise UnsupportedError("the model", "any", "its constants lie in other files", "Embed them in the file.")

    def graph(self) -> Graph:
        model = self.model
        graphs = [self.subgraph(i) for i in range(len(model.subgraphs))]
        main = graphs[0]
        metadata = {_text(m.name): self.raw(m.buffer) for m in model.metadata or []}
        return Graph(
            tensors=main.tensors,
            ops=main.ops,
            inputs=main.inputs,
            outputs=main.outputs,
            name=main.name,
            signatures=main.signatures,
            metadata=metadata,
            description=_text(model.description),
            others=tuple(graphs[1:]),
            extra=main.extra,
        )

    def subgraph(self, index: int) -> Graph:
        sub = self.model.subgraphs[index]
        ops = tuple(self.op(o) for o in _list(sub.operators))
        written = {t for op in ops for t in op.outputs} | set(_ints(sub.inputs))
        return Graph(
            tensors=tuple(self.tensor(t, i in written) for i, t in enumerate(_list(sub.tensors))),
            ops=ops,
            inputs=_ints(sub.inputs),
            outputs=_ints(sub.outputs),
            name=_text(sub.name),
            signatures=tuple(
                Signature(
                    _text(s.signatureKey),
                    tuple((_text(m.name), m.tensorIndex) for m in _list(s.inputs)),
                    tuple((_text(m.name), m.tensorIndex) for m in _list(s.outputs)),
                )
                for s in _list(self.model.signatureDefs)
                if s.subgraphIndex == index
            ),
            extra={"debugMetadataIndex": sub.debugMetadataIndex},
        )

    def raw(self, index: int) -> bytes:
        buffer = self.model.buffers[index]
        if buffer.offset > 1:  # the bytes lie behind the flatbuffer (schema.fbs: Buffer.offset, size)
            if buffer.offset + buffer.size > len(self.data):
                raise InputError("a constant lies beyond the end of the file", "It is cut off: copy it again.")
            return self.data[buffer.offset : buffer.offset + buffer.size]
        return b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes()

    def tensor(self, t: Any, written: bool) -> Tensor:
        dtype = _name("TensorType", t.type).lower()
        name, shape = _text(t.name), _ints(t.shape)
        if t.sparsity is not None:
            raise UnsupportedError(f"tensor {name!r}", "any", "it is stored sparse", "Export it with dense weights.")
        return Tensor(
            name=name,
            shape=shape,
            dtype=dtype,
            data=None if written else self.constant(t.buffer, dtype, shape, name),
            quantization=_quantization(t.quantization, len(shape)),
            shape_signature=None if t.shapeSignature is None else _ints(t.shapeSignature),
            is_variable=bool(t.isVariable),
            extra={"hasRank": t.hasRank, "variantTensors": t.variantTensors, **_range(t.quantization)},
        )

    def constant(self, index: int, dtype: str, shape: tuple[int, ...], name: str) -> Array | None:
        if (key := (index, dtype, shape)) in self.arrays:
            return self.arrays[key]
        raw, count = self.raw(index), int(np.prod(shape, dtype=np.int64))
        if not raw and count:
            return None
        if dtype not in DTYPES:
            raise UnsupportedError(f"constant {name!r}", "any", f"its type is {dtype}")
        array = _unpack_int4(raw, count) if dtype == "int4" else np.frombuffer(raw, np.dtype(DTYPES[dtype]).newbyteorder("<"))
        if array.size != count:
            raise InputError(f"constant {name!r} has {array.size} elements, its shape {shape} needs {count}")
        array = array.reshape(shape)
        array.flags.writeable = False
        self.arrays[key] = array
        return array

    def op(self, o: Any) -> Op:
        code = self.model.operatorCodes[o.opcodeIndex]
        kind = _name("BuiltinOperator", max(code.builtinCode, code.deprecatedBuiltinCode))
        extra = {
            "optionsType": _name("BuiltinOptions", o.builtinOptionsType),
            "customOptions": None if o.customOptions is None else bytes(np.asarray(o.customOptions, np.uint8)),
            "mutatingVariableInputs": o.mutatingVariableInputs,
            "builtinOptions2Type": o.builtinOptions2Type,
            "builtinOptions2": o.builtinOptions2,
        }
        if o.largeCustomOptionsOffset:
            raise UnsupportedError(f"custom op {_text(code.customCode)!r}", "any", "its options lie behind the flatbuffer")
        return Op(
            kind=kind,
            inputs=_ints(o.inputs),
            outputs=_ints(o.outputs),
            options=_options(o.builtinOptions),
            version=code.version,
            custom_code=_text(code.customCode),
            intermediates=_ints(o.intermediates),
            extra=extra,
        )


def _quantization(q: Any, rank: int) -> Quantization | None:
    if q is None or q.scale is None or len(q.scale) == 0:
        return None
    if q.details is not None:
        raise UnsupportedError("a tensor", "any", "it has block-wise or custom quantization")
    scale = np.array(q.scale, np.float32)
    zero_point = np.zeros(scale.shape, np.int64) if q.zeroPoint is None else np.array(q.zeroPoint, np.int64)
    # Some writers give one zero point for all channels.
    zero_point = np.broadcast_to(zero_point, scale.shape) if zero_point.size in (1, scale.size) else zero_point
    return Quantization(scale, zero_point, q.quantizedDimension if scale.size > 1 and rank else None)


def _range(q: Any) -> dict[str, Any]:
    """The schema's informative min and max, which nothing at run time reads."""
    if q is None or (q.min is None and q.max is None):
        return {}
    return {"min": q.min, "max": q.max}


def _options(options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    values: dict[str, Any] = {}
    for name, value in vars(options).items():
        if name in ENUM_FIELDS:
            values[name] = _name(ENUM_FIELDS[name], value)
        elif isinstance(value, (np.ndarray, list)):
            values[name] = tuple(np.asarray(value).tolist())
        else:
            values[name] = value.decode() if isinstance(value, bytes) else value
    return values


# -- writing -----------------------------------------------------------------------


def write(graph: Graph, path: Path) -> int:
    """Writes a .tflite file whole or not at all, and returns its size in bytes.

    Raises:
        InputError: the place cannot be written to, or the disk is full.
    """
    data = to_bytes(graph)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    return len(data)


def to_bytes(graph: Graph) -> bytes:
    """The graph as a TFLite flatbuffer; the same graph gives the same bytes.

    Raises:
        UnsupportedError: the model would be larger than a flatbuffer can be.
    """
    size = sum(t.data.nbytes for g in (graph, *graph.others) for t in g.tensors if t.data is not None)
    if size >= 2**31 - 2**20:
        raise UnsupportedError("the model", "any", f"its constants take {size} bytes; a flatbuffer ends at 2 GiB")
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(_Writer().model(graph).Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Writer:
    """Turns a Graph into the schema's objects, one buffer per distinct array."""

    def __init__(self) -> None:
        self.schema = _schema()
        self.buffers: list[Any] = [self.schema.BufferT()]  # buffer 0 is the empty one, by convention
        self.by_address: dict[tuple[int, int, str], int] = {}
        self.codes: dict[tuple[str, int, str], int] = {}

    def model(self, graph: Graph) -> Any:
        graphs = (graph, *graph.others)
        subgraphs = [self.subgraph(g) for g in graphs]
        metadata = [self.schema.MetadataT(name=k, buffer=self.add(v)) for k, v in graph.metadata.items()]
        signatures = [self.signature(s, i) for i, g in enumerate(graphs) for s in g.signatures]
        return self.schema.ModelT(
            version=3,
            operatorCodes=[self.operator_code(*code) for code in self.codes],
            subgraphs=subgraphs,
            description=graph.description,
            buffers=self.buffers,
            metadata=metadata or None,
            signatureDefs=signatures or None,
        )

    def add(self, data: bytes) -> int:
        buffer = _aligned_buffer()(data=data)
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def constant(self, array: Array, dtype: str) -> int:
        if not array.nbytes:
            return 0
        key = (array.__array_interface__["data"][0], array.nbytes, dtype)
        if key not in self.by_address:
            little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
            self.by_address[key] = self.add(_pack_int4(array) if dtype == "int4" else little.tobytes())
        return self.by_address[key]

    def subgraph(self, graph: Graph) -> Any:
        return self.schema.SubGraphT(
            tensors=[self.tensor(t) for t in graph.tensors],
            inputs=list(graph.inputs),
            outputs=list(graph.outputs),
            operators=[self.op(o) for o in graph.ops],
            name=graph.name,
            debugMetadataIndex=graph.extra.get("debugMetadataIndex", -1),
        )

    def tensor(self, t: Tensor) -> Any:
        return self.schema.TensorT(
            shape=list(t.shape),
            type=getattr(self.schema.TensorType, t.dtype.upper()),
            buffer=0 if t.data is None else self.constant(t.data, t.dtype),
            name=t.name,
            quantization=self.quantization(t),
            isVariable=t.is_variable,
            shapeSignature=None if t.shape_signature is None else list(t.shape_signature),
            hasRank=t.extra.get("hasRank", False),
            variantTensors=t.extra.get("variantTensors"),
        )

    def quantization(self, t: Tensor) -> Any:
        informative = {k: t.extra[k] for k in ("min", "max") if k in t.extra}
        q = t.quantization
        if q is None:
            return self.schema.QuantizationParametersT(**informative) if informative else None
        return self.schema.QuantizationParametersT(
            scale=q.scale.astype(np.float32),
            zeroPoint=np.ascontiguousarray(q.zero_point, np.int64),
            quantizedDimension=q.axis or 0,
            **informative,
        )

    def op(self, o: Op) -> Any:
        code = (o.kind, o.version, o.custom_code)
        options_type = str(o.extra.get("optionsType", OPTIONS_TYPES.get(o.kind, ""))) or "NONE"
        return self.schema.OperatorT(
            opcodeIndex=self.codes.setdefault(code, len(self.codes)),
            inputs=list(o.inputs),
            outputs=list(o.outputs),
            builtinOptionsType=getattr(self.schema.BuiltinOptions, options_type),
            builtinOptions=None if options_type == "NONE" else self.options(options_type, o.options),
            customOptions=_uint8(o.extra.get("customOptions")),
            mutatingVariableInputs=o.extra.get("mutatingVariableInputs"),
            intermediates=list(o.intermediates) or None,
            builtinOptions2Type=o.extra.get("builtinOptions2Type", 0),
            builtinOptions2=o.extra.get("builtinOptions2"),
        )

    def options(self, options_type: str, values: Mapping[str, Any]) -> Any:
        fields = {}
        for name, value in values.items():
            if name in ENUM_FIELDS:
                fields[name] = getattr(getattr(self.schema, ENUM_FIELDS[name]), value)
            else:
                fields[name] = list(value) if isinstance(value, tuple) else value
        return getattr(self.schema, options_type + "T")(**fields)

    def operator_code(self, kind: str, version: int, custom_code: str) -> Any:
        code = getattr(self.schema.BuiltinOperator, kind)
        # Readers from before 2020 look at the 8-bit field alone (schema.fbs: OperatorCode).
        return self.schema.OperatorCodeT(
            deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version, customCode=custom_code or None
        )

    def signature(self, s: Signature, index: int) -> Any:
        tensor_map = self.schema.TensorMapT
        return self.schema.SignatureDefT(
            inputs=[tensor_map(name=k, tensorIndex=t) for k, t in s.inputs],
            outputs=[tensor_map(name=k, tensorIndex=t) for k, t in s.outputs],
            signatureKey=s.key,
            subgraphIndex=index,
        )


# -- the schema's small print --------------------------------------------------------


@cache
def _schema() -> ModuleType:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def _aligned_buffer() -> Any:
    schema = _schema()

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc, name-defined]
        """The generated writer ignores the schema's force_align, so write the vector by hand."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 (the generated code's name)
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            builder.vectorNumElems = len(self.data)
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return AlignedBuffer


@cache
def _names(enum: str) -> dict[int, str]:
    return {v: k for k, v in vars(getattr(_schema(), enum)).items() if isinstance(v, int)}


def _name(enum: str, value: int) -> str:
    if value not in _names(enum):
        raise UnsupportedError("the model", "any", f"it uses {enum} {value}, which this schema does not know")
    return _names(enum)[value]


def _unpack_int4(raw: bytes, count: int) -> Array:
    """Two values a byte, low nibble first, sign-extended; an odd count has one nibble of padding."""
    packed = np.frombuffer(raw, np.uint8)
    nibbles = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(-1)
    values: Array = (nibbles.astype(np.int8) ^ 8) - 8
    return values[:count].astype(np.int8)


def _pack_int4(array: Array) -> bytes:
    nibbles = array.reshape(-1).astype(np.uint8) & 0xF
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()


def _text(value: bytes | str | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value)


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in _list(value))


def _uint8(value: bytes | None) -> Any:
    return None if value is None else np.frombuffer(value, np.uint8)
