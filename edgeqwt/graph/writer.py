"""A Graph becomes a TFLite flatbuffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Array, Graph, Op, Signature, Tensor
from edgeqwt.graph.schema import (
    BUFFER_ALIGNMENT,
    ENUM_FIELDS,
    IDENTIFIER,
    VERSION,
    enum_value,
    options_type,
    pack_int4,
    schema,
)

LARGEST_FILE = 2**31  # bytes; offsets in a flatbuffer have 31 bits
OTHERS = 1 << 16  # bytes of a small file beside its constants; a large one has an eighth of its size more


def bytes_from_graph(graph: Graph) -> bytes:
    """The graph as a flatbuffer; the same graph gives the same bytes.

    Raises:
        InputError: the model is larger than a flatbuffer can be.
    """
    from flatbuffers.builder import BuilderSizeError

    writer = _Writer()
    model = writer.model(graph)
    # A builder that begins small copies all that it has each time that it doubles.
    several = any(other.signatures for other in graph.others)
    builder = _sharing_builder()(writer.size + writer.size // 8 + OTHERS, several)
    try:
        builder.Finish(model.Pack(builder), IDENTIFIER)
    except BuilderSizeError:
        raise _too_large() from None
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


def _too_large() -> InputError:
    return InputError("the model does not fit into a .tflite file, which ends at 2 GiB", "Split it, or use fewer bits.")


class _Writer:
    """Turns a Graph into the schema's objects, one buffer per distinct array."""

    def __init__(self) -> None:
        self.schema = schema()
        self.buffers: list[Any] = [self.schema.BufferT()]  # buffer 0 is the empty one, by convention
        self.size = 0
        self.by_memory: dict[tuple[int, int, bool], int] = {}
        self.codes: dict[tuple[str, int, str], int] = {}

    def model(self, graph: Graph) -> Any:
        graphs = (graph, *graph.others)
        subgraphs = [self.subgraph(g) for g in graphs]
        metadata = [self.schema.MetadataT(name=k, buffer=self.add(v)) for k, v in graph.metadata.items()]
        unnamed = [self.add(v) for v in graph.extra.get("metadataBuffer", ())]
        signatures = [self.signature(s, i) for i, g in enumerate(graphs) for s in g.signatures]
        return self.schema.ModelT(
            version=VERSION,
            operatorCodes=[self.operator_code(*code) for code in self.codes],
            subgraphs=subgraphs,
            description=graph.description,
            buffers=self.buffers,
            metadataBuffer=unnamed or None,
            metadata=metadata or None,
            signatureDefs=signatures or None,
        )

    # -- buffers -----------------------------------------------------------------

    def add(self, data: bytes | memoryview) -> int:
        self.buffers.append(_aligned_buffer()(data=data))
        return len(self.buffers) - 1

    def constant(self, array: Array, dtype: str) -> int:
        """The buffer that holds an array; arrays in the same memory share one."""
        # Other orders of the same memory (a transposed view) are other values.
        address = array.__array_interface__["data"][0] if array.flags.c_contiguous else id(array)
        key = (address, array.nbytes, dtype == "int4")
        if key not in self.by_memory:
            self.size += array.nbytes // 2 if dtype == "int4" else array.nbytes
            if self.size >= LARGEST_FILE:  # before the copy, which would take as much memory again
                raise _too_large()
            if dtype == "int4":
                data: bytes | memoryview = pack_int4(array)
            else:  # not a copy: constants are most of a file
                little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
                data = memoryview(little.reshape(-1).view(np.uint8))
            self.by_memory[key] = self.add(data)
        return self.by_memory[key]

    # -- subgraphs ---------------------------------------------------------------

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
            shape=np.array(t.shape, np.int32),
            type=enum_value("TensorType", t.dtype.upper()),
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
        axis = t.extra.get("quantizedDimension", 0) if q.axis is None else q.axis
        return self.schema.QuantizationParametersT(
            scale=np.ascontiguousarray(q.scale, np.float32),
            zeroPoint=np.ascontiguousarray(q.zero_point, np.int64),
            quantizedDimension=axis if axis < max(len(t.shape), 1) else 0,
            **informative,
        )

    # -- ops ---------------------------------------------------------------------

    def op(self, o: Op) -> Any:
        code = (o.kind, o.version, o.custom_code)
        # The reader notes a file's unusual choice; an op written without options may have been given some since.
        table = o.extra.get("optionsType", "NONE")
        if "optionsType" not in o.extra or (table == "NONE" and o.options):
            table = options_type(o.kind)
        mutating = o.extra.get("mutatingVariableInputs")
        custom = o.extra.get("customOptions")
        return self.schema.OperatorT(
            opcodeIndex=self.codes.setdefault(code, len(self.codes)),
            inputs=np.array(o.inputs, np.int32),
            outputs=np.array(o.outputs, np.int32),
            builtinOptionsType=enum_value("BuiltinOptions", table),
            builtinOptions=self.options(o, table),
            customOptions=None if custom is None else np.frombuffer(custom, np.uint8),
            mutatingVariableInputs=None if mutating is None else list(mutating),
            intermediates=list(o.intermediates) or None,
            builtinOptions2Type=enum_value("BuiltinOptions2", o.extra.get("builtinOptions2Type", "NONE")),
            builtinOptions2=o.extra.get("builtinOptions2"),
            debugMetadataIndex=o.extra.get("debugMetadataIndex", -1),
        )

    def options(self, o: Op, table: str) -> Any:
        names = vars(getattr(self.schema, f"{table}T")()) if table != "NONE" else {}
        if unknown := set(o.options) - set(names):
            raise InvariantError(f"{o.kind} has options {sorted(unknown)}, which its table {table} does not have")
        return getattr(self.schema, f"{table}T")(**self.fields(o.options)) if table != "NONE" else None

    def fields(self, options: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in options.items():
            if name in ENUM_FIELDS:
                fields[name] = enum_value(ENUM_FIELDS[name], value)
            else:
                fields[name] = list(value) if isinstance(value, tuple) else value
        return fields

    def operator_code(self, kind: str, version: int, custom_code: str) -> Any:
        code = enum_value("BuiltinOperator", kind)
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


@cache
def _sharing_builder() -> Any:
    from flatbuffers import Builder

    class SharingBuilder(Builder):  # type: ignore[misc]
        """Writes equal shapes, and the zero points of channels, which are all zero, once.

        Scales, and zero points of activations, stand apart: compensation changes them, and no file may be longer
        after it. Files of several graphs of one model (`joined`) hold all equal vectors and names once.
        """

        def __init__(self, size: int, several: bool) -> None:
            super().__init__(0)
            # The system's own zeros: what is not written costs nothing.
            self.Bytes, self.head = memoryview(np.zeros(size, np.uint8)), size
            self.several, self.written = several, dict[tuple[str, bytes], int]()

        def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802 (the library's name)
            zero_points = x.dtype == np.int64 and x.size > 1 and not x.any()
            if x.dtype != np.int32 and not zero_points and not self.several:
                return int(super().CreateNumpyVector(x))
            return self.once((x.dtype.str, x.tobytes()), lambda: super(SharingBuilder, self).CreateNumpyVector(x))

        def CreateString(self, s: Any, *how: Any) -> int:  # noqa: N802 (the library's name)
            if not self.several or not isinstance(s, str):
                return int(super().CreateString(s, *how))
            return self.once(("", s.encode()), lambda: super(SharingBuilder, self).CreateString(s, *how))

        def once(self, key: tuple[str, bytes], create: Callable[[], Any]) -> int:
            if key not in self.written:
                self.written[key] = create()
            return self.written[key]

    return SharingBuilder


@cache
def _aligned_buffer() -> Any:
    generated = schema()

    class AlignedBuffer(generated.BufferT):  # type: ignore[misc, name-defined]
        """The generated writer ignores the schema's force_align, so write the vector by hand."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 (the generated code's name)
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            builder.vectorNumElems = len(self.data)
            data = builder.EndVector()
            generated.BufferStart(builder)
            generated.BufferAddData(builder, data)
            return generated.BufferEnd(builder)

    return AlignedBuffer
