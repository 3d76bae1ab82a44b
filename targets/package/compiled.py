"""What is in a file that Vela wrote. It is no valid Graph: its scratch tensors are read, and nothing writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeqwt.graph.schema import enum_names, schema
from edgeqwt.graph.tensor import DTYPES


@dataclass(frozen=True)
class Contents:
    """What the device needs to know of a compiled model.

    Attributes:
        ops: kind and custom code of each op, in order.
        activations: bytes of each tensor that is no constant, scratch memory among them.
        tensors: how many there are.
    """

    ops: tuple[tuple[str, str], ...]
    activations: tuple[int, ...]
    tensors: int


def contents(model: bytes) -> Contents:
    """Reads a compiled model's main subgraph."""
    found = schema().Model.GetRootAs(model)
    main = found.Subgraphs(0)
    codes = [found.OperatorCodes(i) for i in range(found.OperatorCodesLength())]
    kinds = [
        (enum_names("BuiltinOperator")[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
         (code.CustomCode() or b"").decode())
        for code in codes
    ]  # fmt: skip
    tensors = [main.Tensors(i) for i in range(main.TensorsLength())]
    return Contents(
        tuple(kinds[main.Operators(i).OpcodeIndex()] for i in range(main.OperatorsLength())),
        tuple(_size(t) for t in tensors if found.Buffers(t.Buffer()).DataLength() == 0),
        len(tensors),
    )


def _size(tensor: Any) -> int:
    shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
    dtype = enum_names("TensorType")[tensor.Type()].lower()
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(DTYPES[dtype]).itemsize
