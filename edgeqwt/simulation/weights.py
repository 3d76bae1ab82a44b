"""The weights of a layer in a study: real values that integers of so many bits stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgeqwt.graph.graph import Array, Op
from edgeqwt.graph.im2col import PATCHED, from_matrix, matrix, patches
from edgeqwt.graph.linear import along, channel_rows
from edgeqwt.rounding.codebook import Codebook
from edgeqwt.rounding.methods import Layer, Nearest, RoundingRule
from edgeqwt.scales.weight_scales import MseWeights
from edgeqwt.scales.weights import weight_scales
from edgeqwt.simulation.diffusion import SignedLog, grouped
from edgeqwt.simulation.quantizers import TINY, Fitted

Steps = RoundingRule | Codebook
Rule = Steps | SignedLog
POSITIONS = 16_384  # rows of a layer's inputs that second moments are summed over
FOLDS = 4
WIDEST = 4  # bits of weights that codebooks are for


def rounded(
    op: Op, weights: Array, axis: int, bits: int, rule: Rule, inputs: Tensor, exact: Tensor, fitted: Fitted
) -> Array:
    """Weights on integer steps, one scale per output channel (or group of its inputs), found by their squared error.

    Args:
        op: with constant weights.
        weights: real, as in the file.
        axis: of their output channels.
        bits: of the integers, which are symmetric about 0.
        rule: how they are rounded.
        inputs: what they meet in the simulation, shape (samples, 1, …): each sample as the file has it.
        exact: the same in the float network.
        fitted: the quantizer of the inputs, in whose terms the weights are rounded.

    Returns:
        Float32, of the weights' shape; what factors and rotations did is undone.
    """
    turned = fitted.there(torch.from_numpy(weights.astype(np.float64)))
    if fitted.group is not None:
        found = grouped(turned, fitted.group, lambda v: by_rows(v, bits, rule))
    elif isinstance(rule, SignedLog):
        moved = turned.movedim(axis, 0)
        found = by_rows(moved.flatten(1), bits, rule).view(moved.shape).movedim(0, axis)
    else:
        found = torch.from_numpy(_on_steps(op, turned.numpy(), axis, bits, rule, inputs, exact, fitted))
    return np.asarray(fitted.back(found).numpy(), np.float32)


def by_rows(values: Tensor, bits: int, rule: Rule) -> Tensor:
    """Rows (…, terms) to what integers stand for, with a scale each: logarithmic steps, or the nearest equal ones."""
    rows = values.flatten(0, -2)
    if isinstance(rule, SignedLog):
        return rule.round(rows, bits).view(values.shape)
    found, limit = rows.double().numpy(), 2 ** (bits - 1) - 1
    widest = weight_scales(found.astype(np.float32), 0, bits).astype(np.float64)
    scale = MseWeights().choose(found, np.ones_like(found), widest, limit)[:, None]
    rounded = np.clip(np.round(found / scale), -limit, limit) * scale
    return torch.from_numpy(rounded).to(values.dtype).view(values.shape)


def coded(rule: Codebook, bits: int) -> Codebook | Nearest:
    """The codebook of so many bits a weight: a byte for each sub-vector; wider weights are rounded to nearest."""
    return Nearest() if bits > WIDEST else replace(rule, length=round(8 / bits))


def _on_steps(
    op: Op,
    scaled: Array,
    axis: int,
    bits: int,
    rule: RoundingRule | Codebook,
    inputs: Tensor,
    exact: Tensor,
    fitted: Fitted,
) -> Array:
    rows, limit = channel_rows(scaled, axis), 2 ** (bits - 1) - 1
    widest = weight_scales(scaled.astype(np.float32), axis, bits).astype(np.float64)
    scale = MseWeights().choose(rows, np.ones_like(rows), widest, limit)
    rule = coded(rule, bits) if isinstance(rule, Codebook) else rule
    if isinstance(rule, Nearest) or op.kind not in PATCHED:
        shaped = along(scale, axis, scaled.ndim)
        found: Array = np.clip(np.round(scaled / shaped), -limit, limit) * shaped
        return found
    return _by_rule(op, scaled, scale, limit, rule, *(_as_met(x, fitted) for x in (inputs, exact)))


def _by_rule(op: Op, weights: Array, scale: Array, limit: int, rule: Steps, inputs: Array, exact: Array) -> Array:
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
        (np.full(scale.size, TINY).reshape(groups, -1), np.full(scale.size, np.inf).reshape(groups, -1)),
    )
    found = rule.round(layer)
    return from_matrix(op.kind, found.integers * found.scale[..., None], weights.shape)


def _rows(op: Op, values: Array, shape: tuple[int, ...]) -> Array:
    found = patches(op, values.reshape(-1, *values.shape[2:]), shape).astype(np.float64)
    return found[:, :: max(1, found.shape[1] // POSITIONS)]


def _as_met(x: Tensor, fitted: Fitted) -> Array:
    """Inputs as the weights meet them while they are rounded."""
    divided = x if fitted.factors is None else x / fitted.factors
    values: Array = (divided if fitted.rotation is None else divided @ fitted.rotation).numpy()
    return values
