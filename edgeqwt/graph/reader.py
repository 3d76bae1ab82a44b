"""A TFLite flatbuffer becomes a Graph.

The schema's generated accessors follow whatever offsets and lengths the bytes hold. Here what
is read is counted against the size of the file, so that damaged bytes end in an error and not
in a loop over billions of elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.custom import as_builtin
from edgeqwt.graph.demands import check_demands
from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Quantization, Signature, Tensor
from edgeqwt.graph.order import in_order, moved, unwritten
from edgeqwt.graph.schema import ENUM_FIELDS, IDENTIFIER, VERSION, enum_names, options_type, schema, unpack_int4
from edgeqwt.graph.sparse import Layout, Level, dense
from edgeqwt.graph.subgraph_calls import unfit_signature, wrong_call

LARGEST_TENSOR = 2**31  # elements; the kernels count in 32 bits
SHARING = 4  # how often a file's texts and lists may be used again before it is taken for damaged
TABLE = 32  # bytes that a table counts for; the smallest take 12, so this is within SHARING of them


def graph_from_bytes(data: bytes, origin: str, *, open_ends: bool = False, demanding: bool = True) -> tuple[Graph, int]:
    """The model in a flatbuffer, and how many of the graph's inputs are the file's own; `origin` names it in messages.

    Constants are read-only views of `data`. With `open_ends`, activations that nothing writes are further inputs. Not
    `demanding`, it takes ops that contradict their tensors: of a graph of our own some shapes may not be known yet.

    Raises:
        InputError: the bytes are no TFLite model, are damaged, or hold something that edgeqwt
            cannot carry through.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise InputError(f"{origin} is not a TFLite model", "A .tflite file has the letters TFL3 at byte 4.")
    try:
        reader = _Reader(data, origin, open_ends, demanding)
        return reader.graph(), reader.own
    except InputError:
        raise
    except InvariantError as error:
        raise InputError(f"{origin} is not a valid model: {error.message}", _AGAIN) from None
    except Exception as error:  # the generated accessors raise whatever a broken offset leads to
        raise InputError(f"{origin} is damaged: its parts do not fit together", _AGAIN) from error


_AGAIN = "It may be cut off or incomplete: copy or export it again."


class _Reader:
    """Reads one file. Where a method takes a field, it is the accessor's name in the generated code."""

    def __init__(self, data: bytes, origin: str, open_ends: bool, demanding: bool) -> None:
        self.data, self.origin, self.open_ends, self.demanding = data, origin, open_ends, demanding
        self.own = 0  # inputs of the main subgraph, in the file
        self.left = SHARING * len(data)  # bytes that may still be read
        self.arrays: dict[tuple[int, str, int], Array] = {}
        self.model = schema().Model.GetRootAs(data)
        self.buffers = self.tables(self.model, "Buffers")
        self.codes = self.tables(self.model, "OperatorCodes")
        self.signatures = self.tables(self.model, "SignatureDefs")

    # -- access ------------------------------------------------------------------

    def refuse(self, what: str, hint: str = _AGAIN) -> InputError:
        return InputError(f"{self.origin}: {what}", hint)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise self.refuse("it lists more than it has bytes for, so it is damaged")

    def tables(self, table: Any, field: str) -> list[Any]:
        count = getattr(table, f"{field}Length")()
        self.spend(TABLE * count)
        return [getattr(table, field)(i) for i in range(count)]

    def array(self, table: Any, field: str) -> Array | None:
        """A vector of numbers as a view, or None where the file has none."""
        if getattr(table, f"{field}IsNone")():
            return None
        values: Array = getattr(table, f"{field}AsNumpy")()
        self.spend(values.nbytes)
        return values

    def ints(self, table: Any, field: str) -> tuple[int, ...]:
        values = self.array(table, field)
        return () if values is None else tuple(values.tolist())

    def text(self, value: bytes | None) -> str:
        if value is None:
            return ""
        self.spend(len(value))
        return value.decode("utf-8", "replace")

    def name(self, enum: str, value: int) -> str:
        if value not in enum_names(enum):
            raise self.refuse(f"it uses {enum} {value}, which edgeqwt's version of the schema does not know")
        return enum_names(enum)[value]

    # -- the model ---------------------------------------------------------------

    def graph(self) -> Graph:
        model = self.model
        if model.Version() != VERSION:
            raise self.refuse(
                f"it is of version {model.Version()} of the TFLite schema; edgeqwt reads version {VERSION}"
            )
        if model.ExternalBuffersLength() or model.ExternalBufferGroupsLength():
            raise self.refuse("its constants lie in other files", "Embed them in the .tflite file.")
        subgraphs = self.tables(model, "Subgraphs")
        if not subgraphs:
            raise self.refuse("it has no subgraph")
        for signature in self.signatures:
            if signature.SubgraphIndex() >= len(subgraphs):
                raise self.refuse(
                    f"signature {self.text(signature.SignatureKey())!r} is of a subgraph that is not there"
                )
        main, *others = (self.sound(self.subgraph(sub, i)) for i, sub in enumerate(subgraphs))
        if wrong := wrong_call((main, *others)) or unfit_signature((main, *others)):
            raise self.refuse(wrong, "Convert the model again.")
        metadata: dict[str, bytes] = {}
        for entry in self.tables(model, "Metadata"):
            name = self.text(entry.Name())
            if name in metadata:
                raise self.refuse(f"it has two metadata entries named {name!r}", "Remove one of them.")
            metadata[name] = self.raw(entry.Buffer()).tobytes()
        unnamed = [self.raw(i).tobytes() for i in self.ints(model, "MetadataBuffer")]
        return Graph(
            tensors=main.tensors,
            ops=main.ops,
            inputs=main.inputs,
            outputs=main.outputs,
            name=main.name,
            signatures=main.signatures,
            metadata=metadata,
            description=self.text(model.Description()),
            others=tuple(others),
            extra={**main.extra, **({"metadataBuffer": unnamed} if unnamed else {})},
            remarks=tuple(remark for graph in (main, *others) for remark in graph.remarks),
        )

    def subgraph(self, sub: Any, index: int) -> Graph:
        ops = tuple(self.op(o) for o in self.tables(sub, "Operators"))
        inputs = self.ints(sub, "Inputs")
        written = {t for op in ops for t in op.outputs} | set(inputs)
        tensors = tuple(self.tensor(t, i in written) for i, t in enumerate(self.tables(sub, "Tensors")))
        ops, tensors = as_builtin(*densified(ops, tensors))
        outputs = self.ints(sub, "Outputs")
        if not index:
            self.own = len(inputs)
            inputs = (*inputs, *(unwritten(ops, tensors, inputs, outputs) if self.open_ends else ()))
        order = in_order(ops, tensors, inputs)
        return Graph(
            tensors=tensors,
            ops=tuple(ops[i] for i in order),
            inputs=inputs,
            outputs=outputs,
            name=self.text(sub.Name()),
            signatures=tuple(self.signature(s) for s in self.signatures if s.SubgraphIndex() == index),
            extra=_set(debugMetadataIndex=(sub.DebugMetadataIndex(), -1)),
            remarks=moved(ops, tensors, order),
        )

    def sound(self, graph: Graph) -> Graph:
        """The subgraph, whose ops have what they need (`demands`), and whose inputs are no states."""
        for t in graph.inputs:
            if graph.tensors[t].is_variable:
                raise self.refuse(f"input {graph.tensors[t].name!r} is a variable", "Convert the model again.")
        twice = next((t for t in graph.inputs if graph.inputs.count(t) > 1), None)
        if twice is not None:
            raise self.refuse(f"input {graph.tensors[twice].name!r} is listed twice", "Convert the model again.")
        if self.demanding:
            check_demands(graph, self.origin)
        return graph

    def signature(self, s: Any) -> Signature:
        inputs, outputs = (
            tuple((self.text(m.Name()), m.TensorIndex()) for m in self.tables(s, field))
            for field in ("Inputs", "Outputs")
        )
        return Signature(self.text(s.SignatureKey()), inputs, outputs)

    # -- tensors -----------------------------------------------------------------

    def tensor(self, t: Any, written: bool) -> Tensor:
        dtype = self.name("TensorType", t.Type()).lower()
        name, shape = self.text(t.Name()), self.ints(t, "Shape")
        if t.ExternalBuffer():
            raise self.refuse(f"the value of tensor {name!r} lies in another file", "Embed it in the .tflite file.")
        # -1 is how some writers mark a dynamic dimension, besides shape_signature.
        if min(shape, default=0) < -1 or abs(math.prod(shape)) >= LARGEST_TENSOR:
            raise self.refuse(f"tensor {name!r} has the impossible shape {shape}")
        variants = self.tables(t, "VariantTensors")
        return Tensor(
            name=name,
            shape=shape,
            dtype=dtype,
            data=self.sparse(t, dtype, shape, name)
            if t.Sparsity() is not None
            else self.constant(t.Buffer(), dtype, shape, name, written or t.IsVariable()),
            quantization=self.quantization(t.Quantization(), shape, name) if _may_be_quantized(dtype) else None,
            shape_signature=None if t.ShapeSignatureIsNone() else self.ints(t, "ShapeSignature"),
            is_variable=bool(t.IsVariable()),
            extra=_set(hasRank=(bool(t.HasRank()), False))
            | ({"variantTensors": [schema().VariantSubTypeT.InitFromObj(v) for v in variants]} if variants else {})
            | self.informative(t.Quantization()),
        )

    def raw(self, index: int) -> Array:
        """The bytes of a buffer, as uint8."""
        buffer = self.buffers[index]
        if buffer.Offset() > 1:  # they lie behind the flatbuffer (schema.fbs: Buffer.offset, size)
            return self.behind(buffer.Offset(), buffer.Size(), "a constant")
        if buffer.DataIsNone():
            return np.zeros(0, np.uint8)
        data: Array = buffer.DataAsNumpy()
        return data

    def behind(self, offset: int, size: int, what: str) -> Array:
        if offset + size > len(self.data):
            raise self.refuse(f"{what} lies beyond the end of the file", "It is cut off: copy it again.")
        return np.frombuffer(self.data, np.uint8, size, offset)

    def constant(self, index: int, dtype: str, shape: tuple[int, ...], name: str, changes: bool) -> Array | None:
        """A tensor's value; the same memory for tensors that share a buffer."""
        raw, count = self.raw(index), math.prod(shape)
        if changes:
            # onnx2tf leaves values on shapes that an op computes; LiteRT runs the op, so they mean nothing.
            return None
        if not raw.size and count:
            return None
        if dtype not in DTYPES:
            raise self.refuse(f"constant {name!r} is of type {dtype}, which edgeqwt does not read")
        element = np.dtype(DTYPES[dtype]).newbyteorder("<")
        needed = (count + 1) // 2 if dtype == "int4" else count * element.itemsize
        if raw.size != needed:
            raise self.refuse(f"constant {name!r} has {raw.size} bytes, its shape {shape} needs {needed}")
        key = (index, dtype, count)
        if key not in self.arrays:
            array = unpack_int4(raw, count) if dtype == "int4" else raw.view(element)
            array.flags.writeable = False
            self.arrays[key] = array
        return self.arrays[key].reshape(shape)

    def sparse(self, t: Any, dtype: str, shape: tuple[int, ...], name: str) -> Array:
        """A constant that is stored without its zeros, with them."""
        if dtype not in DTYPES or dtype == "int4":
            raise self.refuse(f"constant {name!r} is sparse, of type {dtype}, which edgeqwt does not read")
        stored = self.raw(t.Buffer()).view(np.dtype(DTYPES[dtype]).newbyteorder("<"))
        layout, levels = t.Sparsity(), []
        for level in self.tables(layout, "DimMetadata"):
            lists = [
                None if not kind else schema().SparseIndexVectorCreator(kind, table).values
                for kind, table in (
                    (level.ArraySegmentsType(), level.ArraySegments()),
                    (level.ArrayIndicesType(), level.ArrayIndices()),
                )
            ]
            levels.append(Level(level.DenseSize(), *(None if v is None else np.asarray(v) for v in lists)))
        try:
            found = dense(
                stored, shape, Layout(self.ints(layout, "TraversalOrder"), self.ints(layout, "BlockMap"), levels)
            )
        except ValueError as error:
            raise self.refuse(f"constant {name!r} is stored sparse, and {error}") from None
        found.flags.writeable = False
        return found

    def quantization(self, q: Any, shape: tuple[int, ...], name: str) -> Quantization | None:
        if q is None:
            return None
        if q.DetailsType():
            raise self.refuse(f"tensor {name!r} has block-wise or custom quantization", "Export it per channel.")
        scale, zero_point = self.array(q, "Scale"), self.array(q, "ZeroPoint")
        if scale is None or not scale.size:
            return None
        # Some writers give no zero point, or one for all channels.
        zero_point = np.zeros(1, np.int64) if zero_point is None or not zero_point.size else zero_point
        if zero_point.size not in (1, scale.size) or not np.isfinite(scale).all() or (scale < 0).any():
            raise self.refuse(f"tensor {name!r} has no meaningful scales and zero points")
        axis = None
        if scale.size > 1:
            # Some writers give a bias the axis of its weights.
            axis = 0 if len(shape) == 1 else q.QuantizedDimension()
        return Quantization(scale.astype(np.float32), np.resize(zero_point, scale.size).astype(np.int64), axis)

    def informative(self, q: Any) -> dict[str, Any]:
        """Fields of the quantization that nothing at run time reads, as the file has them."""
        if q is None:
            return {}
        values = {"min": self.array(q, "Min"), "max": self.array(q, "Max")}
        found: dict[str, Any] = {k: v for k, v in values.items() if v is not None}
        return found | (_set(quantizedDimension=(q.QuantizedDimension(), 0)) if q.ScaleLength() == 1 else {})

    # -- ops ---------------------------------------------------------------------

    def op(self, o: Any) -> Op:
        code = self.codes[o.OpcodeIndex()]
        kind = self.name("BuiltinOperator", max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        table, fitting = self.name("BuiltinOptions", o.BuiltinOptionsType()), options_type(kind)
        if table != fitting and "NONE" not in (table, fitting):  # LiteRT takes its own defaults then
            raise self.refuse(f"the options of a {kind} op are {table}, not {fitting}", "Convert the model again.")
        custom = self.array(o, "CustomOptions")
        if o.LargeCustomOptionsOffset() > 1:
            custom = self.behind(
                o.LargeCustomOptionsOffset(), o.LargeCustomOptionsSize(), f"the options of a {kind} op"
            )
        mutating = self.array(o, "MutatingVariableInputs")
        second = o.BuiltinOptions2Type()
        extra = _set(
            optionsType=(table, fitting),
            customOptions=(None if custom is None else custom.tobytes(), None),
            mutatingVariableInputs=(None if mutating is None else tuple(mutating.tolist()), None),
            builtinOptions2Type=(self.name("BuiltinOptions2", second), "NONE"),
            builtinOptions2=(schema().BuiltinOptions2Creator(second, o.BuiltinOptions2()), None),
            debugMetadataIndex=(o.DebugMetadataIndex(), -1),
        )
        return Op(
            kind=kind,
            inputs=self.ints(o, "Inputs"),
            outputs=self.ints(o, "Outputs"),
            options=self.options(schema().BuiltinOptionsCreator(o.BuiltinOptionsType(), o.BuiltinOptions())),
            version=code.Version(),
            custom_code=self.text(code.CustomCode()),
            intermediates=self.ints(o, "Intermediates"),
            extra=extra,
        )

    def options(self, options: Any) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        for name, value in vars(options).items() if options is not None else ():
            if name in ENUM_FIELDS:
                values[name] = self.name(ENUM_FIELDS[name], value)
            elif isinstance(value, np.ndarray):
                self.spend(value.nbytes)
                values[name] = tuple(value.tolist())
            else:
                values[name] = self.text(value) if isinstance(value, bytes) else value
        return values


def densified(ops: tuple[Op, ...], tensors: tuple[Tensor, ...]) -> tuple[tuple[Op, ...], tuple[Tensor, ...]]:
    """Without DENSIFY of constants, which have their zeros already: LiteRT's takes those without them alone."""
    data = {op.outputs[0]: tensors[op.inputs[0]].data for op in ops if op.kind == "DENSIFY"}
    known = {t: found for t, found in data.items() if found is not None}
    if not known:
        return ops, tensors
    kept = tuple(op for op in ops if op.kind != "DENSIFY" or op.outputs[0] not in known)
    return kept, tuple(replace(t, data=known[i]) if i in known else t for i, t in enumerate(tensors))


def _set(**fields: tuple[Any, Any]) -> dict[str, Any]:
    """The fields whose value is not their default; each is given as (value, default)."""
    return {name: value for name, (value, default) in fields.items() if value != default}


def _may_be_quantized(dtype: str) -> bool:
    """Whether a scale says anything of a type: of booleans and complex numbers LiteRT does not look at it."""
    return dtype not in DTYPES or dtype == "float32" or np.dtype(DTYPES[dtype]).kind in "iu"
