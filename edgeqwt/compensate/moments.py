"""Streaming statistics for CWAC: what a least-squares line per channel needs, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over samples and positions of a quantized output y_q and its float reference y.

    Attributes:
        n: number of (sample, position) pairs.
        q, y, qq, qy, yy: sums of y_q, y, y_q^2, y_q*y, y^2; float64, shape (channels,).
    """

    n: int
    q: Array
    y: Array
    qq: Array
    qy: Array
    yy: Array

    @staticmethod
    def of(quantized: Array, reference: Array) -> Moments:
        """The moments of some samples; both arrays have the channels on the last axis."""
        channels = quantized.shape[-1]
        q = quantized.reshape(-1, channels).astype(np.float64)
        y = reference.reshape(-1, channels).astype(np.float64)
        ones, dot = np.ones(len(q)), "pc,pc->c"
        return Moments(len(q), ones @ q, ones @ y, np.einsum(dot, q, q), np.einsum(dot, q, y), np.einsum(dot, y, y))

    @staticmethod
    def zero(channels: int) -> Moments:
        """The moments of nothing."""
        return Moments(0, *(np.zeros(channels) for _ in range(5)))

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
        """Per channel, the sum over pairs of (gain * y_q + offset - y)^2; shape (channels,).

        Expanding the square leaves only the sums kept here. Rounding can make a sum of
        squares slightly negative, so it is held at zero.
        """
        expanded = (
            gain**2 * self.qq
            + self.n * offset**2
            + self.yy
            + 2 * gain * offset * self.q
            - 2 * gain * self.qy
            - 2 * offset * self.y
        )
        return np.maximum(expanded, 0.0)
