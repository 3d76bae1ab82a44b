"""Streaming statistics for CWAC: what a least-squares line per channel needs, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array

ELEMENTS = 1 << 17  # of a layer's output that are summed at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums, over samples and positions, of a quantized layer's output q and its float reference y.

    Attributes:
        n: summed weight of the (sample, position) pairs: their number where every weight is 1; an array by sample
            while they are kept apart and positions have weights.
        q, y, qq, qy, yy: weighted sums of q, y, q^2, q*y, y^2; float64, shape (channels,), or
            (samples, channels) while they are kept apart by sample.
    """

    n: float | Array
    q: Array
    y: Array
    qq: Array
    qy: Array
    yy: Array

    @staticmethod
    def of(quantized: Array, reference: Array, weights: Sequence[Array] = ()) -> Moments:
        """The moments of each sample.

        Args:
            quantized: shape (samples, ..., channels).
            reference: the same shape.
            weights: of each sample's positions; 1 without any.
        """
        count, channels = len(quantized), quantized.shape[-1]
        sums = np.empty((5, count, channels))
        # Few at a time, to stay in the processor's cache; enough to keep threads from waiting for each other.
        size = max(1, ELEMENTS // max(1, quantized[0].size))
        for part in (slice(start, start + size) for start in range(0, count, size)):
            q, y = (x[part].reshape(len(x[part]), -1, channels).astype(np.float64) for x in (quantized, reference))
            wq, wy = (x * np.stack(weights[part])[..., None] for x in (q, y)) if weights else (q, y)
            # einsum, not a matrix product: BLAS sums in another order for each number of cores.
            sums[0, part], sums[1, part] = np.einsum("spc->sc", wq), np.einsum("spc->sc", wy)
            for k, (a, b) in enumerate(((wq, q), (wq, y), (wy, y)), start=2):
                sums[k, part] = np.einsum("spc,spc->sc", a, b)
        positions = quantized[0].size / channels
        return Moments(np.array([w.sum() for w in weights]) if weights else positions, *sums)

    @staticmethod
    def zero(channels: int) -> Moments:
        """The moments of nothing."""
        return Moments(0.0, *np.zeros((5, channels)))

    def total(self, weights: Array) -> Moments:
        """Of moments by sample, the sum over samples at these weights, shape (samples,)."""
        sums = (np.einsum("s,sc->c", weights, part) for part in (self.q, self.y, self.qq, self.qy, self.yy))
        count = self.n * weights.sum() if isinstance(self.n, float) else weights @ self.n
        return Moments(float(count), *sums)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.n + other.n,
            self.q + other.q,
            self.y + other.y,
            self.qq + other.qq,
            self.qy + other.qy,
            self.yy + other.yy,
        )

    def error(self, gain: Array, offset: Array) -> Array:
        """Per channel, the weighted sum over pairs of (gain * q + offset - y)^2; shape as `q`.

        Expanding the square leaves only the sums kept here. Rounding can make a sum of
        squares slightly negative, so it is held at zero.

        Args:
            gain: shape (channels,).
            offset: shape (channels,).
        """
        count = self.n if isinstance(self.n, float) else self.n[:, None]
        expanded = (
            gain**2 * self.qq
            + count * offset**2
            + self.yy
            + 2 * gain * offset * self.q
            - 2 * gain * self.qy
            - 2 * offset * self.y
        )
        held: Array = np.maximum(expanded, 0.0)
        return held


def evening(samples: Moments, step: float) -> Array:
    """A weight for each sample, 1 / its RMS error, so that no few samples decide for all others.

    Where something before the layer saturates on some samples, their errors are many times
    those of the others, and plain least squares would fit the line to them. With these
    weights the fit minimizes, to first order, the sum of the samples' RMS errors instead of
    the sum of their squares (one step of iteratively reweighted least squares; Weiszfeld 1937).

    Args:
        samples: moments by sample.
        step: scale of the layer's output; errors below its rounding noise, step^2 / 12, count alike.

    Returns:
        Shape (samples,).
    """
    channels = samples.q.shape[-1]
    square = samples.error(np.ones(channels), np.zeros(channels)).sum(axis=-1) / (samples.n * channels)
    return _evened(square, step)


def evening_rows(quantized: Array, reference: Array, position_weights: Sequence[Array], step: float) -> list[Array]:
    """A weight for each position: its output sensitivity over its RMS error, as `evening` does it for whole samples.

    Tokens of one sentence differ as much as samples: some saturate, and padding counts for nothing.

    Args:
        quantized: shape (samples, ..., channels).
        reference: the same shape.
        position_weights: of each sample's positions.
        step: scale of the layer's output.
    """
    channels = quantized.shape[-1]
    errors = (
        np.square(q.astype(np.float64) - y).reshape(-1, channels) for q, y in zip(quantized, reference, strict=True)
    )
    return [weight * _evened(error.mean(axis=1), step) for weight, error in zip(position_weights, errors, strict=True)]


def _evened(square: Array, step: float) -> Array:
    """1 / RMS error, where rounding noise is a part of the error."""
    return np.asarray(1 / np.sqrt(square + step**2 / 12))
