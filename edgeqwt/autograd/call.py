"""One op as the kernels see it: its values, its options, and what of its inputs is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.graph.graph import Array, Graph, Op


@dataclass(frozen=True, eq=False)
class Call:
    """One op on one sample.

    Attributes:
        graph: the graph that the op belongs to.
        op: the op.
        inputs: its values by slot; None where an optional input is absent.
    """

    graph: Graph
    op: Op
    inputs: Sequence[torch.Tensor | None]

    def __getitem__(self, slot: int) -> torch.Tensor:
        """The value at an input slot that is not absent."""
        value = self.inputs[slot]
        assert value is not None
        return value

    def optional(self, slot: int) -> torch.Tensor | None:
        """The value at an input slot; None where it is absent."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def option(self, name: str, default: Any = None) -> Any:
        """One of the op's options, by its schema name."""
        return self.op.options.get(name, default)

    def static(self, slot: int) -> Array:
        """A constant input: axes, amounts, sizes. `Kernel.static` names the slots that need to be constants."""
        data = self.graph.tensors[self.op.inputs[slot]].stored
        return data

    def integers(self, slot: int) -> tuple[int, ...]:
        """A constant input's elements, flattened."""
        return tuple(int(v) for v in np.ravel(self.static(slot)))

    def shape(self, slot: int = 0) -> tuple[int, ...]:
        """The shape of an output."""
        return self.graph.tensors[self.op.outputs[slot]].shape

    def activated(self, value: torch.Tensor) -> torch.Tensor:
        """The value after the op's fused activation."""
        return activate(value, self.op.activation)


def activate(value: torch.Tensor, activation: str) -> torch.Tensor:
    """A fused activation."""
    match activation:
        case "NONE":
            return value
        case "RELU":
            return value.relu()
        case "RELU6":
            return F.hardtanh(value, 0.0, 6.0)  # what clamp hands back takes five times as long
        case "RELU_N1_TO_1":
            return F.hardtanh(value)
        case "TANH":
            return value.tanh()
    raise AssertionError(activation)  # `missing` names it first


FUSED = frozenset({"NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"})
