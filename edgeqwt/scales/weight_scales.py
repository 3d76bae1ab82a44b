"""How the scales of weights are chosen: one per output channel, integers symmetric about zero.

A rule is a frozen dataclass whose fields are its options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Interval

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import channel_rows, is_linear, slots
from edgeqwt.scales.weights import weight_scales
from edgeqwt.widths.precision import Precision

POLISHES = 8  # least squares settles after a few rounds; more do not change the integers


class WeightRule(Protocol):
    """Chooses the scale of each output channel."""

    def choose(self, rows: Array, importance: Array, widest: Array, limit: int) -> Array:
        """Scales, float64, shape (channels,), none above `widest`.

        Args:
            rows: real weights, float64, shape (channels, terms).
            importance: of each weight's error, same shape, not negative.
            widest: scales at which no weight is clipped, shape (channels,).
            limit: integers lie within +-limit.
        """
        ...


@dataclass(frozen=True)
class MseWeights:
    """The scale with the smallest (weighted) squared rounding error of the channel's weights.

    argmin over s of sum_k h_k (w_k - s q_k)^2 with q_k = clip(round(w_k / s)): the clipping that
    OMSE (Kravchik et al. 2019, section 3.2) and OCTAV (Sakr et al. 2022, eq. 1) look for. With h_k
    the mean square of the input that weight k meets, it is the layer's output error under inputs
    that do not correlate (the Hessian's diagonal; LeCun et al. 1990, eq. 3). Candidates between
    `narrowest` and 1 times the min-max scale are tried; the best is polished by turns of
    s = sum h w q / sum h q^2 (the best scale for given integers) and rounding anew, of which
    neither can raise the error.

    Attributes:
        candidates: scales tried per channel, evenly spaced.
        narrowest: the smallest of them, as a share of the min-max scale. 4-bit weights want 0.6 to 1.
    """

    candidates: Annotated[int, Interval(ge=1, le=1024)] = 64
    narrowest: Annotated[float, Interval(ge=0.01, le=1)] = 0.3

    def choose(self, rows: Array, importance: Array, widest: Array, limit: int) -> Array:
        """See WeightRule."""
        best, least = widest, _error(rows, importance, widest, limit)
        for share in np.linspace(self.narrowest, 1.0, self.candidates, endpoint=False):
            error = _error(rows, importance, share * widest, limit)
            best, least = np.where(error < least, share * widest, best), np.minimum(error, least)
        for _ in range(POLISHES):
            integers = _integers(rows, best, limit)
            power = (importance * integers**2).sum(axis=1)
            fitted = (importance * rows * integers).sum(axis=1) / np.where(power > 0, power, 1)
            # A scale above the widest would clip nothing and round more coarsely for nothing.
            usable = (power > 0) & (fitted > 0) & (fitted <= widest)
            polished = np.where(usable, fitted, best)
            error = _error(rows, importance, polished, limit)
            best, least = np.where(error < least, polished, best), np.minimum(error, least)
        return best


@dataclass(frozen=True)
class PowerOfTwoWeights:
    """Scales that are powers of two, so that a shift can stand in for the multiplier (HPTQ, Habi et al. 2021).

    Each channel takes, of the powers from the min-max scale's next one down to `octaves` below it,
    the one with the smallest (weighted) squared error (HPTQ, section 3.2: threshold selection).
    Scales stay powers of two where nothing behind chooses others: `gptq` with scales = 0, as it is by default, and
    `cwac` with gain = false and rewrite_scales = false.

    Attributes:
        octaves: powers tried besides the one that clips nothing.
    """

    octaves: Annotated[int, Interval(ge=0, le=16)] = 3

    def choose(self, rows: Array, importance: Array, widest: Array, limit: int) -> Array:
        """See WeightRule; the result is above `widest` where the smallest power that clips nothing is."""
        best: Array = np.exp2(np.ceil(np.log2(widest)))
        least = _error(rows, importance, best, limit)
        for octave in range(1, self.octaves + 1):
            narrower = np.exp2(np.ceil(np.log2(widest)) - octave)
            error = _error(rows, importance, narrower, limit)
            best, least = np.where(error < least, narrower, best), np.minimum(error, least)
        return best


def choose(weights: Array, axis: int, bits: int, rule: WeightRule, importance: Array | None = None) -> Array:
    """The scale of each output channel, float64, shape (channels,); min-max as in `weights.weight_scales`.

    Args:
        weights: real, any shape.
        axis: that of the output channels.
        bits: integers lie within +-(2^(bits-1) - 1).
        rule: how to choose.
        importance: of each weight's squared error, not negative, broadcastable to `weights`; the mean
            square of the input that the weight meets (`importance.weight_importance`), say. All alike
            without it, and in channels where it is zero throughout.
    """
    rows = channel_rows(weights, axis).astype(np.float64)
    weight: Array = np.ones(weights.shape) if importance is None else np.broadcast_to(importance, weights.shape)
    factors: Array = channel_rows(weight, axis).astype(np.float64)
    # Only ratios within a channel matter; a channel whose inputs are dead must still round somehow.
    largest = factors.max(axis=1, initial=0.0, keepdims=True)
    factors = np.where(largest > 0, factors / np.where(largest > 0, largest, 1), 1.0)
    return rule.choose(rows, factors, weight_scales(weights, axis, bits), 2 ** (bits - 1) - 1)


def ruled(
    graph: Graph, precision: Precision, rule: WeightRule, importance: Mapping[int, Array] = MappingProxyType({})
) -> dict[int, Array]:
    """Scales by weight tensor, of the constant weights that one linear op alone reads.

    Args:
        graph: float.
        precision: the weights' widths.
        rule: how to choose.
        importance: by weight tensor, see `choose`.
    """
    readers, found = graph.consumers(), {}
    for i, op in enumerate(graph.ops):
        if not is_linear(op):
            continue
        t, bits = slots(op).weight, precision.of(graph.tensors[slots(op).output].name).weights
        data = graph.tensors[t].data
        if data is not None and graph.tensors[t].is_float and readers[t] == [i]:
            found[t] = choose(data, slots(op).axis, bits, rule, importance.get(t))
    return found


def _integers(rows: Array, scale: Array, limit: int) -> Array:
    return np.clip(np.rint(rows / scale[:, None]), -limit, limit)


def _error(rows: Array, importance: Array, scale: Array, limit: int) -> Array:
    """Each channel's weighted squared rounding error, shape (channels,)."""
    integers = _integers(rows, scale, limit)
    error: Array = (importance * (rows - integers * scale[:, None]) ** 2).sum(axis=1)
    return error
