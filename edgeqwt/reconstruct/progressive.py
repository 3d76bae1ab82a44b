"""One layer after the other is rounded, and all that is not rounded yet learns to make up for it.

Straight-through and soft rounding need many thousand steps until what they lose by hardening is won back.
Here second-order rounding (GPTQ) does the hardening of one layer, and a few steps of Adam adapt the real
weights of the others, and the scales and biases of all, to its error: incremental quantization (Zhou et
al. 2017) layer by layer, with QuIP#'s fine-tuning of what is not rounded yet (Tseng et al. 2024, section 5).

The layers whose rounding alone hurts the outputs most go first: for these, most is left to make up for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from edgeqwt.autograd.evaluate import Program, as_array
from edgeqwt.autograd.simulate import Steps, quantizing
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.im2col import PATCHED, from_matrix, matrix, patches
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.reconstruct.learn import Objective, learn
from edgeqwt.reconstruct.learned_rounding import Reconstruction
from edgeqwt.reconstruct.variables import Variables
from edgeqwt.rounding.methods import Gptq, Layer, Nearest
from edgeqwt.scales.weights import BIAS_LIMIT

POSITIONS = 64  # of one sample, about, that a layer's second moments are summed over
CHUNK = 32  # samples at a time
PREVIEW = 64  # samples that tell which layer's rounding hurts most
ROUNDING = Gptq(scales=8, refine=True)


def progressive(
    graph: Graph,
    objective: Objective,
    free: Sequence[Variables],
    rule: Reconstruction,
    chooser: torch.Generator,
    on_layer: Callable[[int, int], None],
) -> list[Variables]:
    """All of a block's layers rounded.

    Args:
        graph: integer; it has the activations' scales.
        objective: what the block is to compute.
        free: the variables of its linear ops, of kind "free".
        rule: options; `iterations` steps follow each layer's rounding, and `finish` steps the last one's.
        chooser: of the samples.
        on_layer: called with (layers done, layers in all).
    """
    now = list(free)
    damage = [_damage(graph, objective, now, k) for k in range(len(now))]
    order = sorted(range(len(now)), key=lambda k: (-damage[k], k))
    for done, k in enumerate(order, start=1):
        now[k] = _rounded(graph, objective, now, k)
        learn(objective, now, rule, rule.iterations, chooser)
        on_layer(done, len(order))
    learn(objective, now, rule, rule.finish, chooser)
    return now


def _damage(graph: Graph, objective: Objective, now: Sequence[Variables], k: int) -> float:
    """The loss at the block's outputs where layer k alone is rounded."""
    objective = replace(objective, count=min(objective.count, PREVIEW))
    trial = list(now)
    trial[k] = _rounded(graph, objective, now, k)
    constants = {t: c for v in trial for t, c in v.constants().items()}
    program, hook = objective.program(), quantizing(objective.pair.steps)
    total = 0.0
    with torch.no_grad():
        for chosen in _chunks(objective.count):
            found = program.many(objective.inputs(chosen), constants, hook)
            total += len(chosen) * float(objective.loss(found, chosen, objective.block.outputs))
    return total


def _rounded(graph: Graph, objective: Objective, now: Sequence[Variables], k: int) -> Variables:
    """Layer k's variables with integers for its real weights as they are now, and the scales that suit them."""
    v = now[k]
    op, kind = objective.pair.graph.ops[v.op], objective.pair.graph.ops[v.op].kind
    real = as_array(v.latent * v.kept * v.current_scale()).astype(np.float64)
    scale = as_array(v.current_scale()).reshape(-1).astype(np.float64)
    if kind not in PATCHED:
        rows = np.moveaxis(real, slots(op).axis, 0)
        found = Nearest().round(Layer(rows.reshape(1, len(rows), -1), scale[None], v.limit, np.zeros((1, 1, 1))))
        integers = np.moveaxis(found.integers.reshape(rows.shape), 0, slots(op).axis)
        return v.fixed(integers, scale)
    hessian = _hessian(objective, now, slots(op).data, v.op)
    weights = matrix(kind, real, len(hessian))
    shape = weights.shape[:2]
    bounds = tuple(b.reshape(shape) for b in _bounds(graph, v, scale))
    pruned = as_array(v.kept) == 0
    masked = matrix(kind, pruned.astype(np.float64), len(hessian)) > 0 if pruned.ndim else None
    layer = Layer(weights, scale.reshape(shape), v.limit, hessian, bounds=(bounds[0], bounds[1]), zeros=masked)
    found = ROUNDING.round(layer)
    return v.fixed(from_matrix(kind, found.integers, real.shape), found.scale.reshape(-1))


def _hessian(objective: Objective, now: Sequence[Variables], x: int, op_index: int) -> Array:
    """Sum of x x^T over samples and positions, in steps of the input's scale: integers, so the sum is exact."""
    graph, s = objective.pair.graph, objective.pair.steps[x]
    op = graph.ops[op_index]
    weights_shape = graph.tensors[slots(op).weight].shape
    size = math.prod(graph.tensors[op.outputs[0]].shape[1:3]) if op.kind != "FULLY_CONNECTED" else 1
    every = max(1, math.ceil(math.sqrt(size / POSITIONS)))
    program, hook = Program(graph, [x], objective.block.given), quantizing(objective.pair.steps)
    constants = {t: c for v in now for t, c in v.constants().items()}
    total: Array = np.zeros(())
    with torch.no_grad():
        for chosen in _chunks(objective.count):
            values = as_array(program.many(objective.inputs(chosen), constants, hook)[x])
            rows = patches(op, _steps(values, s).reshape(-1, *values.shape[2:]), weights_shape, every)
            total = total + np.matmul(rows.transpose(0, 2, 1), rows)
    return total


def _steps(values: Array, s: Steps) -> Array:
    steps: Array = np.rint(values.astype(np.float64) / s.scale)
    return steps


def _bounds(graph: Graph, v: Variables, scale: Array) -> tuple[Array, Array]:
    """Per channel, the scale below which the bias would not fit, and that above which kernels refuse the model."""
    op = graph.ops[v.integer]
    s = slots(op)
    x, y = graph.tensors[s.data].grid, graph.tensors[s.output].grid
    bias = np.broadcast_to(np.abs(as_array(v.current_bias())).astype(np.float64), scale.shape)
    low = np.maximum(bias / (float(x.scale[0]) * BIAS_LIMIT), 1e-30)
    high = 0.99 * rule_at(op.kind, bits_of(graph, op)).largest_ratio * float(y.scale[0]) / float(x.scale[0])
    return low, np.maximum(scale, high)


def _chunks(count: int) -> list[list[int]]:
    return [list(range(first, min(first + CHUNK, count))) for first in range(0, count, CHUNK)]
