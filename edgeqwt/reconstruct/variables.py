"""What is learned of one linear op: its weights' integers, their scales, its bias.

With u for a latent weight in steps of its scale, the weight in use is, by kind,

    free       u: real, not rounded yet; its bias starts as the float graph's
    straight   round(u), and the gradient passes straight through. u starts half-way between the integer that
               the graph has and the real weight, as far as that lies within the integer's cell, so that the
               first step computes what the graph computes
    soft       floor + h, h = clip(1.2 sigmoid(u) - 0.1, 0, 1) (AdaRound, equations 21 to 24); the pull to
               integers is sum(1 - |2h - 1|^beta) with beta falling from 8 to 2
    fixed      u, integers that stay
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from edgeqwt.autograd.evaluate import as_array, as_tensor
from edgeqwt.autograd.simulate import FakeQuantized
from edgeqwt.graph.graph import Array, Graph, Tensor
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.rounding.structure import UNSTRUCTURED, Structure, zeros
from edgeqwt.scales.weights import bias_quantization

STRETCH = 1.1  # the sigmoid reaches from 1 - STRETCH to STRETCH before it is clipped
SOFTEST, HARDEST = 8.0, 2.0  # the pull's exponent at the start and at the end
HALF_WAY = 0.5
CELL = 0.49  # not half a step: it must round to the integer that the graph has


@dataclass(frozen=True, eq=False)
class Variables:
    """One linear op's.

    Attributes:
        kind: see above.
        op: the op's index in the reference.
        integer: its index in the integer graph.
        weight: its weight tensor in the fake-quantized graph.
        bias: its bias tensor in the fake-quantized graph, -1 without one.
        limit: integers lie within ±limit.
        latent: u, shape of the weights.
        floor: the lower of two integers, for soft weights; zeros for others.
        scale: the weights' scale at the start, shaped to broadcast over the weights.
        log_gain: logarithm of the factor that the scale has got since.
        offset: the bias at the start, shape (channels,).
        shift: what is added to it, in steps of the output.
        step: the output's scale.
        kept: 0 where pruning put a zero that stays, 1 elsewhere; shape of the weights, or ().
    """

    kind: str
    op: int
    integer: int
    weight: int
    bias: int
    limit: int
    latent: torch.Tensor
    floor: torch.Tensor
    scale: torch.Tensor
    log_gain: torch.Tensor
    offset: torch.Tensor
    shift: torch.Tensor
    step: float
    kept: torch.Tensor

    def constants(self) -> dict[int, torch.Tensor]:
        """Weights and bias as the fake-quantized graph takes them."""
        steps = self.latent
        if self.kind == "soft":
            steps = self.floor + self.heights()
        elif self.kind == "straight":
            inside = self.latent.clamp(-self.limit, self.limit)
            steps = inside + (inside.round() - inside).detach()
        found = {self.weight: steps * self.kept * self.current_scale()}
        return found if self.bias < 0 else {**found, self.bias: self.current_bias()}

    def current_scale(self) -> torch.Tensor:
        """Of the weights, shaped to broadcast over them."""
        return self.scale * self.log_gain.exp()

    def current_bias(self) -> torch.Tensor:
        """Real, shape (channels,)."""
        return self.offset + self.step * self.shift

    def heights(self) -> torch.Tensor:
        """How far soft weights are on the way from the lower integer to the upper."""
        return (self.latent.sigmoid() * (2 * STRETCH - 1) + 1 - STRETCH).clamp(0, 1)

    def pull(self, done: float) -> torch.Tensor:
        """Sum over soft weights of how far they are from an integer; `done` goes from 0 to 1."""
        exponent = SOFTEST + (HARDEST - SOFTEST) * done
        return (1 - (2 * self.heights() - 1).abs().pow(exponent)).sum()

    def integers(self) -> Array:
        """The weights' integers, int8."""
        steps = self.floor + self.heights().round() if self.kind == "soft" else self.latent.round()
        return as_array((steps * self.kept).clamp(-self.limit, self.limit)).astype(np.int8)

    def fixed(self, integers: Array, scale: Array) -> Variables:
        """With integers and scales that a rounding rule has chosen.

        Args:
            integers: of the weights' shape.
            scale: shape (channels,).
        """
        steps = as_tensor(integers.astype(np.float32))
        new = as_tensor(scale.astype(np.float32)).reshape(self.scale.shape)
        gain = self.log_gain.detach().clone().zero_().requires_grad_()
        return replace(self, kind="fixed", latent=steps, scale=new, log_gain=gain)


def variables(
    graph: Graph, reference: Graph, pair: FakeQuantized, op: int, limit: int, kind: str, kept: Structure = UNSTRUCTURED
) -> Variables:
    """The variables of one linear op, at the start.

    Args:
        graph: integer.
        reference: float; it has the real weights.
        pair: the fake-quantized graph of the two.
        op: index in the reference.
        limit: integers lie within ±limit.
        kind: see above.
        kept: zeros that stay.
    """
    j, ours, theirs = pair.partners[op], slots(pair.graph.ops[op]), slots(reference.ops[op])
    tensor, source = graph.tensors[slots(graph.ops[j]).weight], reference.tensors[theirs.weight]
    pruned = zeros(kept, reference.tensors[reference.ops[op].outputs[0]].name, source.stored)
    scale = as_tensor(tensor.grid.broadcast(tensor.stored.ndim)[0])
    integers, wanted = as_tensor(tensor.stored.astype(np.float32)), as_tensor(source.stored) / scale
    floor, latent = torch.zeros((), device=wanted.device), wanted
    if kind == "straight":
        latent = HALF_WAY * integers + (1 - HALF_WAY) * torch.clamp(wanted, integers - CELL, integers + CELL)
    elif kind == "fixed":
        latent = integers
    elif kind == "soft":
        floor = torch.where(integers > wanted, integers - 1, integers).clamp(-limit, limit - 1)
        height = HALF_WAY * (wanted - floor).clamp(0, 1) + (1 - HALF_WAY) * (integers - floor)
        latent = -torch.log((2 * STRETCH - 1) / (height.clamp(0.01, 0.99) + STRETCH - 1) - 1)
    every = torch.ones((), device=wanted.device) if pruned is None else as_tensor((~pruned).astype(np.float32))
    bias = _bias(pair.graph.tensors[ours.bias]) if ours.bias >= 0 else torch.zeros((), device=wanted.device)
    if kind == "free" and ours.bias >= 0:
        bias = _bias(reference.tensors[theirs.bias]) if theirs.bias >= 0 else torch.zeros_like(bias)
    return Variables(
        kind, op, j, ours.weight, ours.bias, limit, latent.requires_grad_(), floor, scale,
        torch.zeros_like(scale).requires_grad_(), bias, torch.zeros_like(bias).requires_grad_(),
        pair.steps[ours.output].scale, every,
    )  # fmt: skip


def _bias(tensor: Tensor) -> torch.Tensor:
    return as_tensor(tensor.stored)


def written(graph: Graph, learned: list[Variables]) -> Graph:
    """The integer graph with what was learned: integers, scales, and biases at the scales that go with them."""
    changes: dict[int, Tensor] = {}
    for v in learned:
        changes |= _changes(graph, v)
    return graph.with_tensors(changes)


def _changes(graph: Graph, v: Variables) -> dict[int, Tensor]:
    op = graph.ops[v.integer]
    s = slots(op)
    weight, x, y = (graph.tensors[t] for t in (s.weight, s.data, s.output))
    scale: Array = as_array(v.current_scale()).reshape(-1).astype(np.float32)
    ratio = rule_at(op.kind, bits_of(graph, op)).largest_ratio
    largest = 0.99 * ratio * float(y.grid.scale[0]) / float(x.grid.scale[0])
    scale = np.minimum(scale, np.float32(largest))
    changed = {s.weight: replace(weight, data=v.integers(), quantization=replace(weight.grid, scale=scale), extra={})}
    if s.bias < 0:
        return changed
    bias = graph.tensors[s.bias]
    q = bias_quantization(x.grid.scale[0], scale)
    steps = as_array(v.current_bias()).astype(np.float64) / q.scale.astype(np.float64)
    # Kernels and NPUs keep 40 bits of a 64-bit bias.
    most = 2**31 - 1 if bias.dtype == "int32" else 2**39 - 1
    data = np.clip(np.rint(steps), -most, most).astype(bias.stored.dtype)
    return {**changed, s.bias: replace(bias, data=data, quantization=q, extra={})}


def learnable(graph: Graph, reference: Graph, pair: FakeQuantized, kept: Structure = UNSTRUCTURED) -> dict[int, int]:
    """The linear ops whose weights can be learned: index in the reference to index in the integer graph.

    Their weights are integers of their own, with a scale per output channel, and not clustered.
    """
    readers = graph.consumers()
    found = {}
    for i, j in pair.partners.items():
        op = graph.ops[j]
        if not is_linear(op):
            continue
        s = slots(op)
        weight = graph.tensors[s.weight]
        alone = all(len(readers[t]) == 1 for t in (s.weight, s.bias) if t >= 0)
        channels = weight.shape[s.axis]
        per_channel = weight.quantization is not None and weight.quantization.scale.size == channels
        integer = weight.data is not None and weight.dtype == "int8" and per_channel
        clustered = graph.tensors[s.output].name in kept.clusters
        if alone and integer and not clustered and reference.ops[i].outputs[0] in pair.steps:
            found[i] = j
    return found
