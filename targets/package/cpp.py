"""Pieces of C++ source."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgeqwt.errors import UnsupportedError, printable
from edgeqwt.graph.graph import Array, Tensor
from edgeqwt.target.package.details import Port

_COLUMNS = 16

CPP_TYPES = {
    "int8": "std::int8_t",
    "uint8": "std::uint8_t",
    "int16": "std::int16_t",
    "int32": "std::int32_t",
    "int64": "std::int64_t",
    "float32": "float",
    "bool": "bool",
}
"""TFLite's element types to C++'s, for inputs and outputs."""


def byte_rows(data: bytes) -> str:
    """Bytes as the inside of an array's braces, 16 in a line."""
    rows = (data[start : start + _COLUMNS] for start in range(0, len(data), _COLUMNS))
    return "\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in row) + "," for row in rows)


def byte_array(name: str, array: Array) -> str:
    """An array's elements, little-endian, as a constant that kernels and helpers may read as any type."""
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return f"alignas(16) const unsigned char {name}[{len(data)}] = {{\n{byte_rows(data)}\n}};"


def string(text: str) -> str:
    """A C string literal; what is not plain ASCII is written in octal bytes."""
    written = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode("utf-8"))
    return f'"{written}"'


def comment(text: str) -> str:
    """Text that may stand in a comment of one line."""
    # A backslash at the end, or its trigraph, would take the next line into the comment.
    return re.sub(r"\?(?=\?)", "? ", printable(" ".join(text.split())).replace("\\", "/"))


def port_row(port: Port, tensor: Tensor) -> str:
    """One entry of the table of inputs or outputs.

    Raises:
        UnsupportedError: an element type that no C++ type stands for.
    """
    if tensor.dtype not in CPP_TYPES:
        raise UnsupportedError(
            f"{tensor.name!r}", "package", f"inputs and outputs of type {tensor.dtype} have no C++ type"
        )
    q = tensor.quantization
    scale, zero_point = (0.0, 0) if q is None or tensor.is_float else (float(q.scale[0]), int(q.zero_point[0]))
    size = f"{tensor.size} * sizeof({CPP_TYPES[tensor.dtype]})"
    # 9 digits say every float32 exactly.
    return f"    {{{string(port.name)}, {tensor.size}, {size}, {scale:.9g}{_suffix(scale)}, {zero_point}}},"


def port_comment(what: str, index: int, port: Port, tensor: Tensor) -> str:
    """A line that says what the graph takes or gives, and how it lies against the source model's layout."""
    moved = "" if port.permutation is None else f"; the source model's axes in the order {list(port.permutation)}"
    other = "the bytes of output" if what == "Input" else "its bytes go into input"
    state = f"; state: after each run {other} {comment(port.state)}" if port.state else ""
    return f"// {what} {index}: {tensor.dtype} {list(tensor.shape)}{moved}, {comment(port.name)}{state}"


def lines(items: Iterable[str]) -> str:
    """Items as lines."""
    return "\n".join(items)


def _suffix(value: float) -> str:
    text = f"{value:.9g}"
    return "f" if any(c in text for c in ".en") else ".0f"
