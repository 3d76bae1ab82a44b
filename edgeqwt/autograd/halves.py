"""When sums over samples stand: those of every other chunk say what those of the rest say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import runs

WORK = 1 << 32
"""Multiplications that gradients are worth whatever they say: a second. ResNet-20 has the same decibels at 8- and 4-bit
weights with 16 samples as with 64."""
AGREED = 0.15
"""Of their sum, by how much halves differ on average: about the standard error of the sum. Factors and ranges that
minimize a squared error weighted by it cost the square of that more."""


class Halves:
    """Sums of chunks of samples in two halves, by turns.

    Args:
        graph: that gradients are taken through; the more it multiplies, the fewer samples are taken in any case.
        least: samples that are taken in any case, however much it multiplies.
    """

    def __init__(self, graph: Graph, least: int) -> None:
        self.least = runs(graph, WORK, least)
        self.sums: dict[int, Array] = {}
        self.samples = self.turn = 0

    def agree(self, found: Mapping[int, Array], samples: int) -> bool:
        """Takes in what some more samples gave; whether more samples would hardly change the sums.

        Args:
            found: not negative, by tensor index, of one shape for each.
            samples: how many gave it.
        """
        for t, values in found.items():
            self.sums.setdefault(t, np.zeros((2, *values.shape)))[self.turn] += values
        self.turn, self.samples = 1 - self.turn, self.samples + samples
        if self.samples < self.least:
            return False
        known = [halves for halves in self.sums.values() if halves.any()]
        return not known or float(np.mean([np.abs(h[0] - h[1]).sum() / h.sum() for h in known])) <= AGREED
