"""What makes up for a layer's or a block's error in a study, each fitted in closed form.

Corrections of a layer change its output per channel (CWAC: free in a file) or add what costs weights and operations
(low rank); QwT's linear layer corrects a whole block, from its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

Correct = Callable[[Tensor, Tensor], Tensor]
CONFIRM_EVERY = 4  # one sample in so many confirms a correction, which is fitted on the others
TINY = 1e-20


@dataclass(frozen=True, eq=False)
class Corrected:
    """A fitted correction.

    Attributes:
        apply: (input, output) of the layer or block, both of the simulation, to the corrected output.
        parameters: numbers that a file would have to store in addition; 0 where they fold into scales and biases.
    """

    apply: Correct
    parameters: int = 0


class Correction(ABC):
    """A rule that is fitted on (input, output, wanted output), shapes (samples, …, channels)."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    blocks: ClassVar[bool] = False
    """Whether it corrects a block between two residual sums, not a linear op."""

    @abstractmethod
    def fit(self, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected:
        """The correction with the least squared error on these samples."""


@dataclass(frozen=True)
class Offset(Correction):
    """A constant per channel: bias correction."""

    name = "offset"
    paper = "Nagel et al. 2019, section 4.2"

    def fit(self, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected:
        """The mean error of each channel."""
        offset = (wanted - y).double().flatten(0, -2).mean(0).float()
        return Corrected(lambda _, v: v + offset)


@dataclass(frozen=True)
class Cwac(Correction):
    """A gain and an offset per channel.

    Attributes:
        ratio: the gain is the ratio of the deviations, not that of least squares, which shrinks a noisy channel.
    """

    ratio: bool = False
    name = "cwac"
    paper = "QwT-v2: channel-wise affine compensation"

    def fit(self, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected:
        """g = cov(wanted, y) / var(y) of each channel, o = mean(wanted) − g mean(y)."""
        a, b = y.double().flatten(0, -2), wanted.double().flatten(0, -2)
        mean_a, mean_b = a.mean(0), b.mean(0)
        power = (a - mean_a).square().sum(0)
        if self.ratio:
            share = ((b - mean_b).square().sum(0) / power.clamp_min(TINY)).sqrt()
        else:
            share = ((a - mean_a) * (b - mean_b)).sum(0) / power.clamp_min(TINY)
        gain = torch.where(power > TINY, share, torch.ones_like(share))
        offset = mean_b - gain * mean_a
        g, o = gain.float(), offset.float()
        return Corrected(lambda _, v: v * g + o)


@dataclass(frozen=True)
class LowRank(Correction):
    """A product of two thin matrices beside a layer: the part of its error that is linear in its input.

    Reduced-rank regression: the ridge solution W of error against input, projected onto the `rank` directions of the
    outputs that W x varies in most.

    Attributes:
        rank: of the product.
        ridge: as a share of the inputs' mean variance.
    """

    rank: int = 4
    ridge: float = 0.1
    name = "low_rank"
    paper = "AIQViT (Jiang et al. 2025): low-rank compensation, here in closed form"

    def fit(self, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected:
        """Least squares, then the strongest directions."""
        if x.shape[:-1] != y.shape[:-1]:
            return Offset().fit(x, y, wanted)
        weights, constant = _ridge(x, wanted - y, self.ridge)
        fitted = (x.flatten(0, -2) - x.flatten(0, -2).mean(0)) @ weights
        _, _, directions = torch.linalg.svd(fitted.T @ fitted)
        kept = directions[: self.rank]
        both = weights @ kept.T
        shift = constant
        middle = x.flatten(0, -2).mean(0)
        return Corrected(lambda u, v: v + ((u - middle) @ both) @ kept + shift, both.numel() + kept.numel())


@dataclass(frozen=True)
class Linear(Correction):
    """QwT's linear layer: a block's output plus a linear function of its input.

    Attributes:
        ridge: as a share of the inputs' mean variance.
    """

    ridge: float = 0.1
    name = "qwt"
    paper = "QwT (Fu et al. 2024), equations 4 to 6"
    blocks = True

    def fit(self, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected:
        """W = Σ r x^T (Σ x x^T + λ I)^-1 with the error r and x about their means."""
        weights, constant = _ridge(x, wanted - y, self.ridge)
        middle = x.flatten(0, -2).mean(0)
        return Corrected(lambda u, v: v + (u - middle) @ weights + constant, weights.numel() + constant.numel())


def confirmed(rule: Correction, x: Tensor, y: Tensor, wanted: Tensor) -> Corrected | None:
    """A correction fitted on three of four samples, where it lowers the squared error of the fourth; None otherwise."""
    confirms = torch.arange(len(y)) % CONFIRM_EVERY == 1
    if not confirms.any():
        return None
    found = rule.fit(x[~confirms], y[~confirms], wanted[~confirms])
    before = (y[confirms] - wanted[confirms]).square().sum()
    after = (found.apply(x[confirms], y[confirms]) - wanted[confirms]).square().sum()
    return found if bool(after < before) else None


def _ridge(x: Tensor, error: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Weights (inputs, outputs) and the mean of the error; inputs are taken about their mean."""
    a, e = x.double().flatten(0, -2), error.double().flatten(0, -2)
    a, constant = a - a.mean(0), e.mean(0)
    moments = a.T @ a
    damping = share * moments.diagonal().mean().clamp_min(TINY)
    weights = torch.linalg.solve(moments + damping * torch.eye(len(moments), dtype=a.dtype), a.T @ (e - constant))
    return weights.float(), constant.float()


CORRECTIONS: dict[str, Correction | None] = {
    "none": None,
    "offset": Offset(),
    "cwac": Cwac(),
    "cwac_ratio": Cwac(ratio=True),
    "low_rank": LowRank(),
    "qwt": Linear(),
}
"""By the name that commands take."""
