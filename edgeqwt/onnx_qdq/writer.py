"""The ONNX graph that grows: values in both layouts, quantized and real, and how ops read and give them.

A quantized tensor of the graph is one value of the same integer type in ONNX, of the same name and integers. An op
reads it through DequantizeLinear and gives it through QuantizeLinear, so that what stands between both computes in real
numbers what the integer kernel approximates. Where the kernel moves integers (`moved`), the input is dequantized with
the output's scale: whatever the file says, the integers stay.

Convolutions want channels first, TFLite's tensors have them last. A rank-4 value may have either layout or both; it is
transposed when an op asks for the one that is not there. Inputs and outputs keep the file's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import ACTIVATION_LIMITS
from edgeqwt.runtime.boundary import limits

TARGET = "onnx-qdq"
OPSET, IR_VERSION = 21, 10
"""Opset 21 is the first whose QuantizeLinear gives 16-bit integers."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Axes of a tensor with channels last as one with channels first, and back."""
QUANTIZED = ("int8", "uint8", "int16", "uint16", "int4")


def is_quantized(tensor: Tensor) -> bool:
    """Whether a tensor's integers stand for real values."""
    return tensor.quantization is not None and tensor.dtype in QUANTIZED


class NoFormError(UnsupportedError):
    """An op, or the way it is used, cannot be written as ONNX; arguments as those of UnsupportedError."""

    def __init__(self, op: str, rule: str, hint: str) -> None:
        super().__init__(op, TARGET, rule, hint)
        self.message = f"{op} cannot be written as ONNX: {rule}"
        self.args = (self.message,)


class Writer:
    """The state of one export.

    Args:
        graph: what is written.
        real_casts: see `emitters.to_onnx`.
    """

    def __init__(self, graph: Graph, real_casts: bool = False) -> None:
        self.graph, self.real_casts, self.current = graph, real_casts, 0
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.used: Counter[str] = Counter()
        self.values: dict[tuple[int, bool], str] = {}
        self.reals: dict[tuple[object, ...], str] = {}
        # Interface tensors come first: they keep their names, whatever else has the same one.
        self.names = {t: self.unique(graph.tensors[t].name) for t in dict.fromkeys((*graph.inputs, *graph.outputs))}
        self.values |= {(t, False): self.names[t] for t in graph.inputs}

    # -- nodes ------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """The name, or one like it that is not taken."""
        found, k = name, 0
        while found in self.used:
            k += 1
            found = f"{name}_{k}"
        self.used[found] += 1
        return found

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Adds a node; without names for its outputs it has one, whose new name is returned."""
        from onnx import helper

        name = self.out_name()
        names = list(outputs) or [self.unique(f"{name}/{kind.lower()}")]
        node_name = self.unique(f"{name}/{kind}")
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=node_name, **attributes))
        return names[0]

    def out_name(self) -> str:
        """The name of the current op's output, after which its nodes are named."""
        return self.graph.tensors[self.graph.ops[self.current].outputs[0]].name if self.graph.ops else ""

    def constant(self, data: Array, name: str = "") -> str:
        """Adds an initializer."""
        from onnx import numpy_helper

        found = self.unique(name or f"{self.out_name()}/constant")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(data).reshape(data.shape), found))
        return found

    def refuse(self, reason: str, hint: str = "") -> NoFormError:
        """The error where the current op has no form in ONNX."""
        hint = hint or "Replace the op in the source model, or leave it out of the file: cut the model before it."
        return NoFormError(self.graph.describe(self.current), reason, hint)

    # -- reading ----------------------------------------------------------------------

    def tensor(self, t: int) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[t]

    def known(self, t: int, what: str) -> Array:
        """The value of an input that must be constant.

        Raises:
            NoFormError: it is not.
        """
        data = self.tensor(t).data if t >= 0 else None
        if data is None:
            raise self.refuse(f"its {what} are not constant")
        return data

    def stored(self, t: int, first: bool = False) -> str:
        """A tensor's value as it is stored: integers where it is quantized."""
        found = self.values.get((t, first))
        if found is not None:
            return found
        tensor = self.tensor(t)
        if tensor.data is not None:
            data = as_first(tensor.data) if first else tensor.data
            name = self.names.get(t)
            found = self.constant(data, tensor.name) if name is None else self._interface_constant(name, data)
            self.values[t, first] = found
            return found
        order = TO_FIRST if first else TO_LAST
        q = tensor.quantization if is_quantized(tensor) else None
        turned = self.node("Transpose", [self.real(t, not first)], perm=order)
        found = self.name_of(t, first)
        self._place(turned, found, q, tensor.dtype)
        self.values[t, first] = found
        return found

    def _interface_constant(self, name: str, data: Array) -> str:
        return self.node("Identity", [self.constant(data)], [name])

    def name_of(self, t: int, first: bool) -> str:
        """The name that a tensor's value gets in a layout."""
        if not first and t in self.names:
            return self.names[t]
        return self.unique(self.tensor(t).name + ("/channels_first" if first else ""))

    def real(self, t: int, first: bool = False, q: Quantization | None = None, factor: float = 1.0) -> str:
        """A tensor's real values.

        Args:
            t: index of the tensor.
            first: with channels first.
            q: what its integers stand for; None: what the file says.
            factor: by which they are multiplied.
        """
        tensor = self.tensor(t)
        if not is_quantized(tensor):
            return self.stored(t, first)
        q = q or tensor.grid
        axis = q.axis if q.axis is None or not first else TO_FIRST.index(q.axis)
        key = (t, first, q.scale.tobytes(), q.zero_point.tobytes(), factor)
        if key not in self.reals:
            self.reals[key] = self.dequantized(self.stored(t, first), q, tensor.dtype, axis, factor)
        return self.reals[key]

    def dequantized(self, value: str, q: Quantization, dtype: str, axis: int | None = None, factor: float = 1.0) -> str:
        """Integers as real values."""
        per_axis: dict[str, Any] = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", [value, *self.parameters(q, dtype, axis is not None, factor)], **per_axis)

    def parameters(self, q: Quantization, dtype: str, per_axis: bool = False, factor: float = 1.0) -> list[str]:
        """Scale and zero point as initializers."""
        shape: tuple[int, ...] = (q.scale.size,) if per_axis else ()
        scale = (q.scale.astype(np.float64) * factor).astype(np.float32).reshape(shape)
        kept = {"int32": np.int32, "int4": np.int8}.get(dtype) or np.dtype(dtype).type
        return [self.constant(scale), self.constant(q.zero_point.astype(kept).reshape(shape))]

    def weights(self, t: int, order: Sequence[int], axis: int = 0) -> str:
        """Real values of constant weights in ONNX's order of axes, in which output channels lie along `axis`."""
        value, q = self.constant(self.known(t, "weights").transpose(order)), self.tensor(t).quantization
        if q is None:
            return value
        return self.dequantized(value, q, self.tensor(t).dtype, None if q.axis is None else axis)

    # -- giving -----------------------------------------------------------------------

    def give(self, t: int, value: str, first: bool = False, activation: str = "NONE") -> None:
        """Makes a real value the value of a tensor, quantized where that is, with an activation fused."""
        tensor, name = self.tensor(t), self.name_of(t, first)
        q = tensor.quantization if is_quantized(tensor) else None
        if activation not in ACTIVATION_LIMITS:
            raise self.refuse(f"its activation {activation} has no form")
        if not self._clips(q, tensor.dtype, activation):
            self._place(value, name, q, tensor.dtype)
        elif q is None:
            self._place(self._clipped(value, activation, tensor.dtype), name, None, tensor.dtype)
        else:
            # Rounded first: an op between both has a scale of its own, and the limits are among its integers.
            between = self.again(value, q, tensor.dtype)
            self._place(self._clipped(between, activation, "float32"), name, q, tensor.dtype)
        self.values[t, first] = name

    def put(self, t: int, value: str) -> None:
        """Makes a value, integers or not, the value of a tensor as it is stored."""
        name = self.name_of(t, False)
        self._rename(value, name)
        self.values[t, False] = name

    def again(self, value: str, q: Quantization, dtype: str) -> str:
        """A real value rounded to a scale, and real again: between two ops that stand in for one of the file."""
        rounded = self.node("QuantizeLinear", [value, *self.parameters(q, dtype)])
        return self.dequantized(rounded, q, dtype)

    def between(self, value: str, t: int) -> str:
        """A real value between two ops that stand in for one of the file, at the scale of a tensor of the file."""
        return self.again(value, self.tensor(t).grid, self.tensor(t).dtype) if is_quantized(self.tensor(t)) else value

    def moved(self, t: int, op: Op, first: bool = False) -> str:
        """The real values of an input whose integers an op hands on as they are."""
        out = self.tensor(op.outputs[0])
        return self.real(t, first, out.quantization if is_quantized(out) and self._per_tensor(t) else None)

    def _per_tensor(self, t: int) -> bool:
        q = self.tensor(t).quantization
        return q is not None and q.axis is None

    def _place(self, value: str, name: str, q: Quantization | None, dtype: str) -> None:
        if q is None:
            self._rename(value, name)
        else:
            self.node("QuantizeLinear", [value, *self.parameters(q, dtype)], [name])

    def _rename(self, value: str, name: str) -> None:
        """Lets the node that was added last write another name; where it is not its value, a copy."""
        if self.nodes and value in self.nodes[-1].output and value not in self.values.values():
            outputs = self.nodes[-1].output
            outputs[list(outputs).index(value)] = name
        else:
            self.node("Identity", [value], [name])

    def _clips(self, q: Quantization | None, dtype: str, activation: str) -> bool:
        low, high = ACTIVATION_LIMITS[activation]
        if q is None:
            return (low, high) != (None, None)
        scale, zero = float(q.scale[0]), int(q.zero_point[0])
        smallest, largest = limits(dtype)
        return (low is not None and round(low / scale) + zero > smallest) or (
            high is not None and round(high / scale) + zero < largest
        )

    def _clipped(self, value: str, activation: str, dtype: str) -> str:
        low, high = ACTIVATION_LIMITS[activation]
        if high is None:
            return self.node("Relu", [value])
        bounds = [self.constant(np.array(bound, np.dtype(dtype))) for bound in (low, high)]
        return self.node("Clip", [value, *bounds])


def as_first(data: Array) -> Array:
    """A constant beside a tensor with channels first: of rank 4, channels where that has them."""
    if data.ndim == 0:
        return data
    return data.reshape((1,) * (4 - data.ndim) + data.shape).transpose(TO_FIRST)
