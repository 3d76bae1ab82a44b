"""What papers on diffusion transformers do to a layer's input, with an eye on the weights that it meets.

These rules look at both operands of a layer: `fit_layer` gets the weights and how they are going to be rounded.
Values that no constant weights meet (products of attention) get one range of least squared error.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edgeqwt.simulation.quantizers import TINY, Fitted, Quantizer, Round, Uniform, searched, uniform

HELD_OUT_EVERY = 4  # one sample in so many decides, on which nothing was fitted


@dataclass(frozen=True, eq=False)
class Met:
    """The constant weights that values meet.

    Attributes:
        weights: of all layers that read the values, shape (outputs, input channels).
        rounds: such weights to those that integers can stand for, with a scale per row.
    """

    weights: Tensor
    rounds: Round

    def error(self, x: Tensor, fitted: Fitted) -> float:
        """The squared error of the layers' outputs with both operands quantized.

        Args:
            x: values, shape (samples, …, input channels).
            fitted: their quantizer, in whose terms the weights are rounded.
        """
        found = fitted.back(grouped(fitted.there(self.weights), fitted.group, self.rounds))
        return float((fitted.rounds(x) @ found.T - x @ self.weights.T).double().square().sum())


class LayerQuantizer(Quantizer):
    """A rule that looks at the weights, too."""

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """One range: there are no weights."""
        return Uniform().fit(x, bits)

    @abstractmethod
    def fit_layer(self, x: Tensor, bits: int, met: Met) -> Fitted:
        """The rule's quantizer for values that meet weights."""


@dataclass(frozen=True)
class Balanced(LayerQuantizer):
    """Channels of activation and weights balanced at the geometric mean of their saliences.

    The salience of a channel is its largest absolute value, a of the activation and w of the weights. Activations are
    divided by f = sqrt(a / w) and weights multiplied by it, so that both become sqrt(a w). a differs between time
    steps: it is the mean of those of the samples, each of which is of one time step, weighed by exp(−ρ) with
    Spearman's correlation ρ of a and w, since channels that are large in one operand alone are those that balance.
    """

    paper: ClassVar[str] = "PTQ4DiT (Wu et al. 2024), sections 4.1 and 4.2"
    integers: ClassVar[str] = "yes: `equalization` finds such factors for files, by optimization"

    def fit_layer(self, x: Tensor, bits: int, met: Met) -> Fitted:
        """Factors, and one range of what is left."""
        ours = x.abs().flatten(1, -2).amax(1) if x.ndim > 2 else x.abs()
        theirs = met.weights.abs().amax(0)
        share = torch.softmax(-torch.stack([spearman(one, theirs) for one in ours]), 0)
        factors = ((share @ ours).clamp_min(1e-5) / theirs.clamp_min(1e-5)).sqrt()
        low, high = searched(x / factors, bits, "mse", tuple(range(x.ndim)), 0)
        return Fitted(lambda v: uniform(v / factors, low, high, bits) * factors, factors)


@dataclass(frozen=True)
class Grouped(LayerQuantizer):
    """Groups of input channels with ranges of their own, in each token at run time and in each row of the weights.

    Attributes:
        sizes: of groups that are tried, the coarsest first; 0 is one group of all channels. A finer one, whose
            scales cost more, is taken where the layer's output errs less by `margin`.
        margin: as a share of the squared error.
    """

    sizes: tuple[int, ...] = (0, 128, 64, 32, 16)
    margin: float = 0.1
    paper: ClassVar[str] = "Q-DiT (Chen et al. 2024), its search of sizes layer by layer in place of an evolution's"
    integers: ClassVar[str] = "no: a range for each group of each token exists in no kernel"

    def fit_layer(self, x: Tensor, bits: int, met: Met) -> Fitted:
        """Sizes by the error of the layer's output; the ranges are found when the values are there."""
        channels = x.shape[-1]
        best, least = by_group(channels, bits), float("inf")
        for size in self.sizes:
            if size < channels and channels % (size or channels) == 0:
                tried = by_group(size or channels, bits)
                error = met.error(x, tried)
                if error < (1 - self.margin) * least:
                    best, least = tried, error
        return best


def by_group(size: int, bits: int) -> Fitted:
    """Ranges for each group of so many channels of each token."""

    def rounds(v: Tensor) -> Tensor:
        return grouped(v, size, lambda g: uniform(g, g.amin(-1, keepdim=True), g.amax(-1, keepdim=True), bits))

    return Fitted(rounds, group=size)


def grouped(values: Tensor, size: int | None, rounds: Round) -> Tensor:
    """Groups of so many of the last axis rounded as rows of their own; None: the whole axis is one."""
    return rounds(values) if size is None else rounds(values.reshape(*values.shape[:-1], -1, size)).flatten(-2)


@dataclass(frozen=True)
class Rotated(LayerQuantizer):
    """Channels mixed by a Hadamard matrix, which spreads outliers over all of them, where that pays.

    Held-out samples decide by the squared error of the layer's output between the values as they are and rotated.
    """

    paper: ClassVar[str] = (
        "LRQ-DiT (Yang et al. 2025): its adaptive rotation, with held-out samples in place of thresholds and without "
        "the rotation aware of outliers"
    )
    integers: ClassVar[str] = "behind a norm without modulation, by folding; elsewhere a layer of its own"

    def fit_layer(self, x: Tensor, bits: int, met: Met) -> Fitted:
        """The better one of both."""
        decides = torch.arange(len(x)) % HELD_OUT_EVERY == 1
        turn = hadamard(x.shape[-1])
        if not decides.any() or len(turn) < 2:
            return self.fit(x, bits)
        plain, rotated = self.fit(x[~decides], bits), _rotated(x[~decides], bits, turn)
        better = met.error(x[decides], rotated) < met.error(x[decides], plain)
        return _rotated(x, bits, turn) if better else self.fit(x, bits)


def _rotated(x: Tensor, bits: int, turn: Tensor) -> Fitted:
    inner = Uniform().fit(x @ turn, bits)
    return replace(inner, rounds=lambda v: inner.rounds(v @ turn) @ turn.T, rotation=turn)


def hadamard(channels: int) -> Tensor:
    """An orthogonal matrix (channels, channels): blocks of the largest power of two that divides their number."""
    block = torch.ones(1, 1)
    while channels % (2 * len(block)) == 0:
        block = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), block) / 2**0.5
    return torch.kron(torch.eye(channels // len(block)), block)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of the ranks of two vectors; 0 where one has no order."""
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float()
    ranks = ranks - ranks.mean(1, keepdim=True)
    return (ranks[0] * ranks[1]).sum() / (ranks.square().sum(1).prod().sqrt()).clamp_min(TINY)


@dataclass(frozen=True)
class SignedLog:
    """Weights on logarithmic steps, with a scale of their own for each sign of each row.

    The integers' first half stands for s₊ b^(−q), the second one for −s₋ b^(−q), with q from 0 on: dense near 0, where
    most weights are. Kernels know equal steps alone.

    Attributes:
        bases: values of b that are tried for each row; the squared error decides.
        narrowest: the smallest of the scales that are tried, as a share of the largest weight of the sign.
        scales: how many are tried.
    """

    bases: tuple[float, ...] = (1.2, 1.3, 2**0.5, 1.6, 2.0)
    narrowest: float = 0.6
    scales: int = 9
    paper: ClassVar[str] = "LRQ-DiT (Yang et al. 2025): logarithmic weights by its abstract; the base is searched"

    def round(self, weights: Tensor, bits: int) -> Tensor:
        """Weights (rows, terms) to those that integers of so many bits stand for."""
        steps = torch.arange(2 ** (bits - 1), dtype=weights.dtype)
        best = torch.full((len(weights),), float("inf"), dtype=weights.dtype)
        chosen = weights
        for base in self.bases:
            found = self._sign(weights, base**-steps) - self._sign(-weights, base**-steps)
            error = (found - weights).square().sum(1)
            chosen = torch.where((error < best)[:, None], found, chosen)
            best = torch.minimum(best, error)
        return chosen

    def _sign(self, weights: Tensor, levels: Tensor) -> Tensor:
        """The positive weights on the levels, at the best scale of each row; 0 for the others."""
        largest, positive = weights.amax(1, keepdim=True).clamp_min(TINY), weights > 0
        best, chosen = torch.full_like(largest, float("inf")), weights
        bounds = (levels.flip(0)[1:] + levels.flip(0)[:-1]) / 2
        for share in torch.linspace(1, self.narrowest, self.scales):
            scale = largest * share
            found = torch.where(positive, levels.flip(0)[torch.bucketize(weights / scale, bounds)] * scale, 0)
            error = torch.where(positive, found - weights, 0).square().sum(1, keepdim=True)
            chosen, best = torch.where(error < best, found, chosen), torch.minimum(best, error)
        return chosen
