"""Small float graphs, op by op, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Tensor
from edgeqwt.runtime.runners import xnnpack
from tests.one_op import options_type

CONV: dict[str, Any] = {
    "padding": "SAME",
    "strideH": 1,
    "strideW": 1,
    "dilationHFactor": 1,
    "dilationWFactor": 1,
    "fusedActivationFunction": "NONE",
}
DEPTHWISE: dict[str, Any] = {**CONV, "depthMultiplier": 1}
NONE: dict[str, Any] = {"fusedActivationFunction": "NONE"}


class Chain:
    """A graph that grows; every method returns the index of the tensor it adds."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.inputs: list[int] = []

    def input(self, shape: tuple[int, ...], name: str = "", dtype: str = "float32") -> int:
        """A graph input."""
        self.inputs.append(self._add(Tensor(name or f"x{len(self.inputs)}", shape, dtype)))
        return self.inputs[-1]

    def constant(self, array: Any, name: str = "") -> int:
        """A constant; floats become float32, integers int32."""
        array = np.asarray(array)
        array = array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
        return self._add(Tensor(name or f"c{len(self.tensors)}", array.shape, array.dtype.name, array))

    def op(
        self,
        kind: str,
        *inputs: int,
        name: str = "",
        dtype: str = "float32",
        shape: tuple[int, ...] | None = None,
        version: int = 1,
        **options: Any,
    ) -> int:
        """An op with one output; its shape is LiteRT's answer unless it is given."""
        out = self._add(Tensor(name or f"{kind.lower()}{len(self.ops)}", shape or (1,), dtype))
        self.ops.append(Op(kind, inputs, (out,), options, version, extra={"optionsType": options_type(kind)}))
        if shape is None:
            graph = self.graph(out).pruned()
            ones = {t: np.ones(graph.tensors[t].shape, DTYPES[graph.tensors[t].dtype]) for t in graph.inputs}
            found = xnnpack(graph).run(ones)[graph.outputs[0]].shape
            self.tensors[out] = Tensor(self.tensors[out].name, found, dtype)
        return out

    def graph(self, *outputs: int) -> Graph:
        """The graph so far."""
        return Graph(tuple(self.tensors), tuple(self.ops), tuple(self.inputs), outputs)

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Normally distributed float32."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def samples(graph: Graph, count: int = 4, seed: int = 1) -> list[dict[int, Array]]:
    """Normally distributed inputs (integers 0 to 3, coin tosses) for a graph."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        values: dict[int, Array] = {}
        for t in graph.inputs:
            tensor = graph.tensors[t]
            if tensor.is_float:
                values[t] = rng.standard_normal(tensor.shape).astype(np.float32)
            else:
                high = 2 if tensor.dtype == "bool" else 4
                values[t] = rng.integers(0, high, tensor.shape).astype(DTYPES[tensor.dtype])
        found.append(values)
    return found
