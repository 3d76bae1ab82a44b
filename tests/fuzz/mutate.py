"""Damaged and hostile files out of good ones, the same for the same seed: bytewise and within their own structure.

A mutant of bytes mostly dies at the reader's first check. One whose structure is intact, but whose numbers, indices,
shapes and names are wrong, gets far.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rng = np.random.Generator
Mutator = Callable[[Rng, bytes], bytes]

NUMBERS = (
    -(2**63),
    -(2**31),
    -65536,
    -129,
    -2,
    -1,
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    65535,
    65536,
    2**30,
    2**31 - 1,
    2**63 - 1,
)
NAMES = (
    b"", b"\x1b]0;title\x07\x1b[2J", b"name ends ??/", b"a\n#error x\n", b"\xff\xfe\xc3", b"*/ int x; /*", b"../../x",
    b"<script>alert(1)</script>", b"| [x](y) |", b"n" * 5000, "\u202egnp".encode(), b"%s%n", b"\0",
)  # fmt: skip


def pick[T](rng: Rng, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def number(rng: Rng, old: int) -> int:
    """Another number: near the old one, or at an end of some type."""
    near = (old + 1, old - 1, -old, old * 2, old // 2, old ^ (1 << int(rng.integers(31))))
    return int(pick(rng, near) if rng.random() < 0.5 else pick(rng, NUMBERS))


def of_bytes(rng: Rng, data: bytes) -> bytes:
    """Some bytes replaced, cut out, doubled or written over by a number."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not found:
            break
        at = int(rng.integers(len(found)))
        match int(rng.integers(6)):
            case 0:
                found[at] ^= 1 << int(rng.integers(8))
            case 1:
                found[at] = int(pick(rng, (0, 1, 0x7F, 0x80, 0xFF)))
            case 2:
                del found[at : at + int(rng.integers(1, 64))]
            case 3:
                found[at:at] = found[at : at + int(rng.integers(1, 64))]
            case 4:
                found[at : at + 4] = struct.pack("<i", int(pick(rng, [n for n in NUMBERS if abs(n) < 2**31])))
            case _:
                del found[max(at, 8) :]
    return bytes(found)


# -- TFLite --------------------------------------------------------------------------

RANGES = {"code": (-128, 127), "type": (0, 25)}


def of_tflite(rng: Rng, data: bytes) -> bytes:
    """Fields of the schema's objects changed: indices, shapes, types, options, scales, names, constants."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for _ in range(int(rng.integers(1, 4))):
        _change_model(rng, model)
    builder = Builder(len(data))
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except Exception:  # a number that its field has no room for: nobody can write such a file
        return of_bytes(rng, data)
    return bytes(builder.Output())


def _change_model(rng: Rng, model: Any) -> None:
    graph = pick(rng, model.subgraphs)
    kind = int(rng.integers(10))
    if kind <= 3 and graph.operators:
        _change_op(rng, graph, pick(rng, graph.operators), model)
    elif kind <= 7 and graph.tensors:
        _change_tensor(rng, pick(rng, graph.tensors), model)
    elif kind == 8:
        _change_list(rng, graph, pick(rng, ("inputs", "outputs")))
    else:
        code = pick(rng, model.operatorCodes)
        code.builtinCode = code.deprecatedBuiltinCode = int(rng.integers(0, 127))
        code.version = int(rng.integers(0, 12))


def _change_op(rng: Rng, graph: Any, op: Any, model: Any) -> None:
    kind = int(rng.integers(7))
    if kind <= 1:
        _change_list(rng, op, pick(rng, ("inputs", "outputs")), len(graph.tensors))
    elif kind <= 3 and op.builtinOptions is not None and vars(op.builtinOptions):
        name = pick(rng, sorted(vars(op.builtinOptions)))
        old = getattr(op.builtinOptions, name)
        if isinstance(old, bool):
            setattr(op.builtinOptions, name, not old)
        elif isinstance(old, int):
            setattr(op.builtinOptions, name, number(rng, old))
        elif isinstance(old, float):
            setattr(op.builtinOptions, name, float(pick(rng, (0.0, -1.0, 1e38, float("inf"), float("nan"), 1e-38))))
    elif kind == 4:
        other = pick(rng, graph.operators)
        op.builtinOptions, op.builtinOptionsType = other.builtinOptions, other.builtinOptionsType
    elif kind == 5:
        op.opcodeIndex = int(rng.integers(len(model.operatorCodes) + 1))
    else:
        at = int(rng.integers(len(graph.operators)))
        graph.operators.insert(at, graph.operators.pop(int(rng.integers(len(graph.operators)))))


def _change_list(rng: Rng, owner: Any, name: str, count: int = 40) -> None:
    old = getattr(owner, name)
    values = [] if old is None else [int(v) for v in old]
    match int(rng.integers(4)):
        case 0 if values:
            values[int(rng.integers(len(values)))] = int(rng.integers(-1, count + 1))
        case 1 if values:
            del values[int(rng.integers(len(values)))]
        case 2:
            values.insert(int(rng.integers(len(values) + 1)), int(rng.integers(-1, count)))
        case _ if values:
            at = int(rng.integers(len(values)))
            values[at] = int(np.clip(number(rng, values[at]), -(2**31), 2**31 - 1))
    setattr(owner, name, values)


def _change_tensor(rng: Rng, tensor: Any, model: Any) -> None:
    match int(rng.integers(9)):
        case 0 | 1:
            _change_list(rng, tensor, "shape", 70)
        case 2:
            tensor.type = int(rng.integers(0, 20))
        case 3:
            tensor.name = pick(rng, NAMES)
        case 4:
            tensor.buffer = int(rng.integers(len(model.buffers) + 1))
        case 5 if tensor.quantization is not None and tensor.quantization.scale is not None:
            quantization = tensor.quantization
            scale = np.array(quantization.scale, np.float32)
            if scale.size:
                scale[int(rng.integers(scale.size))] = pick(rng, (0.0, -1.0, 1e-45, 1e38, np.inf, np.nan, 1e-9, 300.0))
            quantization.scale = scale
            if rng.random() < 0.3:
                quantization.quantizedDimension = int(rng.integers(-1, 5))
            if rng.random() < 0.3 and quantization.zeroPoint is not None and len(quantization.zeroPoint):
                quantization.zeroPoint = np.array([number(rng, int(z)) % 2**63 for z in quantization.zeroPoint])
        case 6:
            tensor.isVariable = not tensor.isVariable
        case 7:
            _change_list(rng, tensor, "shapeSignature", 70)
        case _:
            _change_constant(rng, model.buffers[min(tensor.buffer, len(model.buffers) - 1)])


def _change_constant(rng: Rng, buffer: Any) -> None:
    """A number in a constant; small ones are axes, shapes and paddings."""
    if buffer.data is None or not len(buffer.data):
        return
    data = np.array(buffer.data, np.uint8)
    at = int(rng.integers(data.size)) // 4 * 4
    if data.size >= 4 and at + 4 <= data.size:
        old = int(data[at : at + 4].view("<i4")[0])
        data[at : at + 4] = np.frombuffer(struct.pack("<q", number(rng, old) % 2**63)[:4], np.uint8)
    else:
        data[at % data.size] ^= 1 << int(rng.integers(8))
    buffer.data = data


# -- ONNX ----------------------------------------------------------------------------


def of_onnx(rng: Rng, data: bytes) -> bytes:
    """Fields of the protocol buffer's messages changed, dropped, doubled, or moved elsewhere."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(int(rng.integers(1, 4))):
        _change_message(rng, model)
    return bytes(model.SerializeToString())


def _change_message(rng: Rng, message: Any) -> None:
    while True:
        fields = message.ListFields()
        if not fields:
            return
        field, value = fields[int(rng.integers(len(fields)))]
        many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        inner = (value[int(rng.integers(len(value)))] if value else None) if many else value
        if inner is None:
            return
        if field.message_type is None or rng.random() < 0.1:
            break
        message = inner
    if field.message_type is not None or rng.random() < 0.15:
        _drop_or_double(rng, message, field, value, many)
        return
    new = _another(rng, field, inner)
    try:
        if many:
            value[int(rng.integers(len(value)))] = new
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError):  # out of the field's range
        return


def _drop_or_double(rng: Rng, message: Any, field: Any, value: Any, many: bool) -> None:
    if not many:
        message.ClearField(field.name)
    elif rng.random() < 0.5:
        del value[int(rng.integers(len(value)))]
    elif field.message_type is not None:
        value.add().CopyFrom(value[int(rng.integers(len(value)))])
    else:
        value.append(value[int(rng.integers(len(value)))])


def _another(rng: Rng, field: Any, old: Any) -> Any:
    if isinstance(old, bytes):
        return of_bytes(rng, old)
    if isinstance(old, str):
        return pick(rng, (*NAMES, old.encode() + b"x")).decode("utf-8", "ignore")
    if isinstance(old, float):
        return float(pick(rng, (0.0, -1.0, 1e38, float("inf"), float("nan"))))
    return number(rng, int(old))


# -- npz -------------------------------------------------------------------------------


def of_npz(rng: Rng, data: bytes) -> bytes:
    """Headers of arrays rewritten, members dropped, doubled or renamed, declared sizes changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = int(rng.integers(len(members)))
    name, content = members[at]
    match int(rng.integers(6)):
        case 0 | 1:
            members[at] = name, _header(rng, content)
        case 2:
            members[at] = pick(rng, NAMES).decode("latin-1") + pick(rng, (".npy", "")), content
        case 3:
            members.append(members[at])
        case 4:
            members[at] = name, of_bytes(rng, content)
        case _:
            return of_bytes(rng, data)
    out = io.BytesIO()
    ways = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name.replace("\0", "?"))
            archive.writestr(info, content, pick(rng, ways))
    return out.getvalue() if rng.random() < 0.7 else of_bytes(rng, out.getvalue())


def _header(rng: Rng, content: bytes) -> bytes:
    """The .npy with a header of another shape, order or type."""
    shape = pick(rng, ("()", "(0,)", "(4, 8, 8, 3)", "(2147483647, 4)", "(-1, 8)", "(1e3,)", "('a',)", "(4,)*9", "8"))
    dtype = pick(rng, ("<f4", ">f8", "|O", "|V16", "<U7", "<M8[s]", "<c8", "[('a', '<f4')]", "zz", "(" * 80))
    text = f"{{'descr': '{dtype}', 'fortran_order': {pick(rng, ('False', 'True', '3'))}, 'shape': {shape}, }}"
    if rng.random() < 0.2:
        text = pick(rng, ("{" * 500, "__import__('os')", "[]", text + "x", "'" * 3))
    header = text.encode().ljust(118 - 10) + b"\n"
    version = pick(rng, (b"\x01\x00", b"\x01\x00", b"\x03\x00", b"\x09\x09"))
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + content[128:]


# -- images, TOML ------------------------------------------------------------------------


def of_toml(rng: Rng, data: bytes) -> bytes:
    """Values replaced by others of any type, keys doubled or renamed, nesting."""
    lines = data.decode().splitlines()
    at = int(rng.integers(len(lines)))
    key = lines[at].partition("=")[0].strip() or "x"
    values = (
        "nan", "-inf", "1e999", "-1", "0", "99999999999999999999", '""', "true", "[[1]]", "{a.b = 1}", "1979-05-27",
        '"\\u001b[2J"', "[" * 3000 + "]" * 3000, '["a", 1]', "'''x'''",
    )  # fmt: skip
    match int(rng.integers(5)):
        case 0 | 1:
            lines[at] = f"{key.strip('[]')} = {pick(rng, values)}"
        case 2:
            lines[at] = f"[{'.'.join(key.strip('[]') for _ in range(int(pick(rng, (1, 2, 2000)))))}]"
        case 3:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        case _:
            return of_bytes(rng, data)
    return "\n".join(lines).encode()


MUTATORS: dict[str, Mutator] = {
    "tflite": of_tflite,
    "onnx": of_onnx,
    "npz": of_npz,
    "image": of_bytes,
    "recipe": of_toml,
    "profile": of_toml,
}


def mutant(kind: str, seed: int, index: int, data: bytes) -> bytes:
    """The mutant of that number of a good file: one in four is damaged bytewise, the others within their structure."""
    rng = np.random.default_rng((seed, index))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as zipfile's about a name that comes twice
        return _mutant(kind, rng, data)


def _mutant(kind: str, rng: Rng, data: bytes) -> bytes:
    return of_bytes(rng, data) if rng.random() < 0.25 else MUTATORS[kind](rng, data)
