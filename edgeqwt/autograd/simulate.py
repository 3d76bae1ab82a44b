"""An integer graph as a float graph that gradients pass through: rounded constants, fake-quantized activations.

The float graph that the integer one was lowered from runs with the integer graph's constants in real
values, and every activation is rounded to the integer graph's steps. What is left of a difference
to the integer kernels is float32's rounding next to a tie: one step now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from edgeqwt.autograd.evaluate import Hook
from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.graph.pairing import counterparts, op_counterparts
from edgeqwt.runtime.boundary import limits, real


@dataclass(frozen=True)
class Steps:
    """The values that a quantized activation can take: scale · (q − zero_point), q from low to high."""

    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class FakeQuantized:
    """A float graph with an integer graph's constants.

    Attributes:
        graph: the reference with constants replaced; its tensors' indices stay valid, new ones follow.
        steps: of the activations that are integers in the integer graph, by tensor index.
        partners: op index in `graph` to the integer graph's op of the same kind with the same outputs.
    """

    graph: Graph
    steps: Mapping[int, Steps]
    partners: Mapping[int, int]


def fake_quantized(graph: Graph, reference: Graph) -> FakeQuantized:
    """The float graph that computes what an integer graph computes, but for the rounding of activations.

    Args:
        graph: integer, lowered from `reference`, so that outputs have the same names.
        reference: float.
    """
    same_name = op_counterparts(reference, graph)
    tensors, ops, partners = list(reference.tensors), list(reference.ops), {}
    for i, op in enumerate(reference.ops):
        j = same_name.get(i)
        if j is None or graph.ops[j].kind != op.kind:
            continue
        partners[i] = j
        # The integer op may have a bias where the float one has none.
        inputs = [*op.inputs, *[-1] * (len(graph.ops[j].inputs) - len(op.inputs))]
        for slot, t in enumerate(graph.ops[j].inputs):
            constant = None if t < 0 else _real_constant(graph.tensors[t])
            if constant is not None:
                inputs[slot] = len(tensors)
                tensors.append(constant)
        ops[i] = replace(op, inputs=tuple(inputs))
    changed = replace(reference, tensors=tuple(tensors), ops=tuple(ops))
    return FakeQuantized(changed, activation_steps(graph, reference), partners)


def _real_constant(tensor: Tensor) -> Tensor | None:
    """A quantized constant in real values; None for anything else."""
    if tensor.data is None or tensor.quantization is None:
        return None
    return Tensor(tensor.name, tensor.shape, "float32", real(tensor.data, tensor.quantization))


def activation_steps(graph: Graph, reference: Graph) -> dict[int, Steps]:
    """The steps of the reference's float activations that an integer graph holds as integers, by tensor index."""
    found = {}
    for t, q in counterparts(reference, graph).items():
        quantization = graph.tensors[q].quantization
        if quantization is not None and reference.tensors[t].is_float and quantization.axis is None:
            low, high = limits(graph.tensors[q].dtype)
            found[t] = Steps(float(quantization.scale[0]), int(quantization.zero_point[0]), low, high)
    return found


def quantizing(steps: Mapping[int, Steps]) -> Hook:
    """A hook that rounds each activation to its steps, which are given by tensor index; other tensors pass."""

    def hook(t: int, value: torch.Tensor) -> torch.Tensor:
        if t not in steps:
            return value
        s = steps[t]
        return fake_quantize(value, s.scale, s.zero_point, s.low, s.high)

    return hook


def fake_quantize(x: torch.Tensor, scale: torch.Tensor | float, zero_point: int, low: int, high: int) -> torch.Tensor:
    """scale · (clip(round(x / scale) + zero_point, low, high) − zero_point), with straight-through gradients.

    The gradient for x is 1 inside the range and 0 outside; the one for the scale is that of LSQ
    (Esser et al. 2020, equation 3): round(x / s) − x / s inside, the end of the range outside.

    Args:
        x: any shape.
        scale: one positive number; a tensor of shape () if it is to be learned.
        zero_point: the integer that stands for 0.
        low: smallest integer.
        high: largest integer.
    """
    step = scale if isinstance(scale, torch.Tensor) else torch.tensor(scale, dtype=x.dtype, device=x.device)
    rounded: torch.Tensor = _FakeQuantize.apply(x, step, zero_point, low, high)  # type: ignore[no-untyped-call]
    return rounded


class _FakeQuantize(torch.autograd.Function):
    """See `fake_quantize`."""

    @staticmethod
    def forward(x: Any, scale: Any, zero_point: int, low: int, high: int) -> Any:
        return (x / scale).round_().clamp_(low - zero_point, high - zero_point).mul_(scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, scale, zero_point, low, high = inputs
        ctx.save_for_backward(x, scale)
        ctx.bounds = (low - zero_point, high - zero_point)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x, scale), (low, high) = ctx.saved_tensors, ctx.bounds
        # A value within half a step of an end is rounded to it, not clipped.
        middle, reach = (low + high) / 2 * scale, ((high - low) / 2 + 0.5) * scale
        inside = (x - middle).abs_() <= reach
        for_scale = None
        if ctx.needs_input_grad[1]:
            steps = x / scale
            slope = steps.round().clamp_(low, high) - steps * inside
            for_scale = (gradient * slope).sum()
        return gradient * inside, for_scale, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, scale: Any, zero_point: int, low: int, high: int) -> Any:
        # Element by element, so the samples' axis is one more axis.
        return _FakeQuantize.apply(x, scale, zero_point, low, high), in_dims[0]  # type: ignore[no-untyped-call]
