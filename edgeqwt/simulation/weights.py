"""The weights of a layer in a study: real values that integers of so many bits stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.graph.graph import Array, Op
from edgeqwt.graph.linear import along, channel_rows
from edgeqwt.graph.patches import PATCHED, from_matrix, matrix, patches
from edgeqwt.rounding.methods import Layer, Nearest, RoundingRule
from edgeqwt.scales.weight_scales import MseWeights
from edgeqwt.scales.weights import weight_scales

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

POSITIONS = 16_384  # rows of a layer's inputs that second moments are summed over
FOLDS = 4


def rounded(
    op: Op,
    weights: Array,
    axis: int,
    bits: int,
    rule: RoundingRule,
    inputs: Tensor,
    exact: Tensor,
    factors: Array | None,
) -> Array:
    """Weights on integer steps, one scale per output channel, found by their squared error.

    Args:
        op: with constant weights.
        weights: real, as in the file.
        axis: of their output channels.
        bits: of the integers, which are symmetric about 0.
        rule: how they are rounded.
        inputs: what they meet in the simulation, shape (samples, 1, …): each sample as the file has it.
        exact: the same in the float network.
        factors: of the input channels (last axis), which the weights are multiplied by before they are rounded.

    Returns:
        Float32, of the weights' shape; what factors did is undone.
    """
    scaled: Array = weights.astype(np.float64) * (1.0 if factors is None else factors)
    rows, limit = channel_rows(scaled, axis), 2 ** (bits - 1) - 1
    widest = weight_scales(scaled.astype(np.float32), axis, bits).astype(np.float64)
    scale = MseWeights().choose(rows, np.ones_like(rows), widest, limit)
    if isinstance(rule, Nearest) or op.kind not in PATCHED:
        shaped = along(scale, axis, scaled.ndim)
        found: Array = np.clip(np.round(scaled / shaped), -limit, limit) * shaped
    else:
        found = _by_rule(op, scaled, scale, limit, rule, *(_divided(x, factors) for x in (inputs, exact)))
    return np.asarray(found / (1.0 if factors is None else factors), np.float32)


def _by_rule(
    op: Op, weights: Array, scale: Array, limit: int, rule: RoundingRule, inputs: Array, exact: Array
) -> Array:
    x, y = (_rows(op, values, weights.shape) for values in (inputs, exact))
    groups = len(x)
    real = matrix(op.kind, weights, groups)
    parts = [(a, b) for a, b in zip(np.array_split(x, FOLDS, axis=1), np.array_split(y, FOLDS, axis=1), strict=True)]
    folds = [(a.transpose(0, 2, 1) @ a, real @ ((b - a).transpose(0, 2, 1) @ a)) for a, b in parts]
    layer = Layer(
        real,
        scale.reshape(groups, -1),
        limit,
        sum(h for h, _ in folds),
        sum(p for _, p in folds) if rule.float_targets else None,
        tuple(folds) if rule.float_targets else (),
    )
    found = rule.round(layer)
    return from_matrix(op.kind, found.integers * found.scale[..., None], weights.shape)


def _rows(op: Op, values: Array, shape: tuple[int, ...]) -> Array:
    found = patches(op, values.reshape(-1, *values.shape[2:]), shape).astype(np.float64)
    return found[:, :: max(1, found.shape[1] // POSITIONS)]


def _divided(x: Tensor, factors: Array | None) -> Array:
    values: Array = x.numpy()
    return values if factors is None else values / factors.astype(np.float32)
