"""Ranges by what they do to the output of the op that reads them: correlation, and the order of attention scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgeqwt.graph.graph import Graph
from edgeqwt.simulation.quantizers import CANDIDATES, NARROWEST, TINY, Fitted, Op, Quantizer, uniform
from edgeqwt.simulation.sites import MOVING, leads_to

RANKED = 4  # samples whose pairs of scores are looked at: there are positions² of them for each query
SCALED = MOVING | {"MUL", "ADD"}


@dataclass(frozen=True)
class Correlated(Quantizer):
    """One range, whose output has the highest Pearson correlation with the float one; scores also keep their order.

    The range that is taken minimizes 1 − Γ(Y, Ŷ) + rank · (mean hinge over pairs of scores of a query).

    Attributes:
        rank: what the hinge counts for, of scores that go into a softmax.
        margin: by which pairs should keep their order, in standard deviations of the scores.
    """

    rank: float = 1.0
    margin: float = 0.0
    paper: ClassVar[str] = "PTQ for ViT (Liu et al. 2021), similarity-aware and ranking-aware quantization"
    integers: ClassVar[str] = "8 and 16 bits: it is one scale and zero point"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """By the correlation of the values themselves, where nothing is known of what reads them."""
        return self.fit_output(x, bits, Op(lambda v: v))

    def fit_output(self, x: Tensor, bits: int, op: Op) -> Fitted:
        """By the op's output."""
        wanted, low, high = op.run(x), x.min(), x.max()
        best, chosen = float("inf"), (low, high)
        for k in range(CANDIDATES + 1):
            share = 1 - (1 - NARROWEST) * k / CANDIDATES
            found = op.run(uniform(x, low * share, high * share, bits))
            lost = 1 - correlation(wanted, found)
            if op.scores:
                lost += self.rank * ranking(wanted[:RANKED], found[:RANKED], self.margin)
            if lost < best:
                best, chosen = lost, (low * share, high * share)
        return Fitted(lambda v: uniform(v, *chosen, bits))


def correlation(wanted: Tensor, found: Tensor) -> float:
    """Pearson's coefficient of all values of two tensors of one shape; 0 where one of them is constant."""
    a, b = (t.double() - t.double().mean() for t in (wanted, found))
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(TINY))


def ranking(wanted: Tensor, found: Tensor, margin: float = 0.0) -> float:
    """Mean over pairs of scores of one query of max(0, margin − (f_i − f_j) · sign(w_i − w_j)).

    Args:
        wanted: float scores, shape (…, queries, keys).
        found: rounded ones, likewise.
        margin: of the hinge.

    Returns:
        In standard deviations of `wanted`; pairs that are equal there do not count. 0 of constant scores.
    """
    deviation = wanted.std(correction=0).clamp_min(TINY)
    order = (wanted.unsqueeze(-1) - wanted.unsqueeze(-2)).sign()
    apart = (found.unsqueeze(-1) - found.unsqueeze(-2)) / deviation
    hinge = (margin - apart * order).clamp_min(0) * order.abs()
    return float(hinge.sum() / order.abs().sum().clamp_min(1))


def makes_scores(graph: Graph, i: int) -> bool:
    """Whether an op's output goes into a softmax; scaling, masks and ops that only move values are looked through."""
    return leads_to(graph, i, "SOFTMAX", SCALED)
