"""How much a tensor varies between samples, in constant memory.

A tensor that is nearly the same for every sample has a high SQNR whatever happens to the rest of it: what
distinguishes one sample from another is what a model is for. The mean over samples is therefore taken from every
element, and the squares of what remains are summed. Parts merge exactly but for rounding (Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances", 1979): no difference of large sums is
ever taken, so that a small variation beside a large mean keeps its digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array


@dataclass(frozen=True, eq=False)
class Spread:
    """Moments of a tensor, element by element.

    Attributes:
        count: number of samples.
        mean: over them, shape of the tensor, float64 as soon as there are two.
        squares: Σ (value − mean)² over samples and elements; exactly 0 where all samples are equal.
        reach: the most that an element of samples that were added differed from the mean of those before; exactly 0
            likewise.
    """

    count: int
    mean: Array
    squares: float = 0.0
    reach: float = 0.0

    @property
    def varying(self) -> float:
        """What Σ (value − mean of the whole population)² is expected to be: the mean of few samples follows them."""
        return self.squares * self.count / max(1, self.count - 1)

    def plus(self, other: Spread) -> Spread:
        """Both parts together."""
        count = self.count + other.count
        with np.errstate(all="ignore"):
            delta = np.subtract(other.mean, self.mean, dtype=np.float64)
            mean = self.mean + delta * (other.count / count)
            between = float(np.einsum("i,i->", delta.ravel(), delta.ravel())) * (self.count * other.count / count)
            reach = max(float(delta.max(initial=0.0)), -float(delta.min(initial=0.0)))
        squares = self.squares + other.squares + between
        return Spread(count, mean, squares, math.nan if math.isnan(squares) else max(self.reach, other.reach, reach))


def together(a: Spread | None, b: Spread | None) -> Spread | None:
    """Both parts together, where either may be missing."""
    if a is None or b is None:
        return b if a is None else a
    return a.plus(b)
