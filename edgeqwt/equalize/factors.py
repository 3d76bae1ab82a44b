"""Numbers of factors: which are equal, which are each other's reciprocals, which are 1.

Every element of every activation gets the number of its factor. Numbers are joined as the ops need it: a union-find
whose links have an exponent, 1 or -1, because what divides by k and what multiplies by k share one unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array

ANY, FIXED = 0, 1  # what is always zero takes any factor; the number of the factor that is 1


@dataclass(frozen=True, eq=False)
class Channels:
    """Numbers of factors.

    Attributes:
        of: float activation tensor index -> int64, the tensor's shape: each element's factor.
        unknown: of each number, int64, shape (count,): which unknown the factor is made of; 0 for ANY and FIXED.
        exponent: of each number, float64, shape (count,): 1, or -1 where the factor is 1 / the unknown; 0 for ANY
            and FIXED.
    """

    of: Mapping[int, Array]
    unknown: Array
    exponent: Array

    @property
    def count(self) -> int:
        """Factors are numbered 0 (any factor will do), 1 (the factor 1) to count - 1."""
        return len(self.unknown)

    @property
    def unknowns(self) -> int:
        """How many unknowns there are, with the one that is always 1."""
        return int(self.unknown.max()) + 1

    def factors(self, logs: Array) -> Array:
        """The factors, float64, shape (count,), for the logarithms of the unknowns, of which the first is ignored."""
        return np.asarray(np.exp(self.exponent * logs[self.unknown]))


class Factors:
    """Union-find over factor numbers; FIXED stays the representative of its set."""

    def __init__(self) -> None:
        self.parent = [ANY, FIXED]
        self.inverted = [False, False]  # whether the factor is 1 / its parent

    def fresh(self, count: int) -> Array:
        """New factors that nothing is known of."""
        first = len(self.parent)
        self.parent += range(first, first + count)
        self.inverted += [False] * count
        return np.arange(first, first + count)

    def find(self, factor: int) -> tuple[int, bool]:
        """The representative, and whether the factor is 1 / it."""
        path, root = [], factor
        while self.parent[root] != root:
            path.append(root)
            root = self.parent[root]
        inverted = False
        for node in reversed(path):
            inverted ^= self.inverted[node]
            self.parent[node], self.inverted[node] = root, inverted
        return root, inverted and root != FIXED

    def inverse(self, factors: Array) -> Array:
        """The reciprocals' numbers."""
        numbers, at = np.unique(factors, return_inverse=True)
        made = numbers.copy()
        for i, f in enumerate(numbers.tolist()):
            if f not in (ANY, FIXED):
                made[i] = len(self.parent)
                self.parent.append(f)
                self.inverted.append(True)
        return np.asarray(made[at].reshape(factors.shape))

    def tie(self, first: Array, second: Array) -> None:
        """Makes factors equal, element by element."""
        span = len(self.parent)
        one, two = np.broadcast_arrays(first, second)
        pairs = np.unique(one.reshape(-1) * span + two.reshape(-1))
        for pair in pairs[(pairs // span != ANY) & (pairs % span != ANY)].tolist():
            (a, up), (b, down) = self.find(pair // span), self.find(pair % span)
            if a != b:
                self.parent[max(a, b)], self.inverted[max(a, b)] = min(a, b), up != down
            elif up != down:  # k = 1 / k
                self.parent[a] = FIXED

    def fix(self, factors: Array) -> None:
        """Makes factors 1."""
        self.tie(factors, np.full(1, FIXED))

    def canonical(self, factors: Array) -> Array:
        """Equal numbers where factors are known to be equal, different ones elsewhere; ANY and FIXED stay."""
        numbers = _distinct(factors)
        found = [2 * root + inverted if root > FIXED else root for root, inverted in map(self.find, numbers.tolist())]
        return _looked_up(numbers, np.array(found, np.int64), factors)

    def numbered(self, of: Mapping[int, Array]) -> Channels:
        """All tensors' factors, numbered without gaps."""
        named = {t: self.canonical(factors) for t, factors in of.items()}
        kept = np.unique(np.concatenate([[ANY, FIXED], *map(_distinct, named.values())]))
        roots, exponents = kept // 2, 1.0 - 2.0 * (kept % 2)
        roots[kept <= FIXED], exponents[kept <= FIXED] = 0, 0.0
        return Channels(
            {t: _looked_up(kept, np.arange(len(kept)), f) for t, f in named.items()},
            np.unique(roots, return_inverse=True)[1],
            exponents,
        )


def _distinct(numbers: Array) -> Array:
    """The numbers that occur, in order. No sorting: they are small, and activations have millions of elements."""
    once = _once(numbers)
    found = np.zeros(int(once.max(initial=0)) + 1, bool)
    found[once] = True
    return np.flatnonzero(found)


def _looked_up(numbers: Array, values: Array, of: Array) -> Array:
    """Each number's value, at each of its places."""
    table = np.zeros(int(numbers.max(initial=0)) + 1, values.dtype)
    table[numbers] = values
    return np.broadcast_to(table[_once(of)], of.shape)


def _once(values: Array) -> Array:
    """What was broadcast, before it was."""
    return values[tuple(slice(None if stride else 1) for stride in values.strides)]


def by_channel(factors: Array) -> Array:
    """The factors along the last axis; where padding has none, those of the other positions."""
    return by_element(factors, (factors.shape[-1],))


def by_element(factors: Array, shape: tuple[int, ...]) -> Array:
    """One factor for each element of something that is broadcast to the factors' shape; FIXED where all are ANY.

    Args:
        factors: int64.
        shape: with as many axes or fewer, each as long as that of `factors` or 1.
    """
    full = (1,) * (factors.ndim - len(shape)) + shape
    axes = tuple(a for a, n in enumerate(full) if n == 1)
    return np.asarray(np.maximum(factors.max(axis=axes, keepdims=True), FIXED).reshape(shape))


def varying(factors: Array) -> tuple[bool, ...]:
    """Along which axes factors differ, given their canonical numbers."""
    return tuple(
        bool(((factors != factors.max(axis=a, keepdims=True)) & (factors != ANY)).any()) for a in range(factors.ndim)
    )
