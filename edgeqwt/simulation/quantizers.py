"""How activations are quantized in a study: rules that are fitted to values, and what they become.

A rule is a frozen dataclass whose fields are its options; `fit` looks at values of the calibration samples, float32 of
shape (samples, …, channels), and returns a `Fitted`, which rounds values of that shape to those that the chosen number
of bits can tell apart. Nothing here runs in TFLite but `Uniform` per tensor at 8 and 16 bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

Round = Callable[[Tensor], Tensor]
Search = Literal["minmax", "mse", "cosine", "percentile"]
CANDIDATES = 40  # ranges that a search tries
NARROWEST = 0.2  # the narrowest of them, as a share of the whole range
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Fitted:
    """A quantizer of one activation.

    Attributes:
        rounds: real values to those that integers can stand for, of the same shape.
        factors: of each channel, shape (channels,): what the weights that read it are multiplied by before they are
            quantized, because the activation was divided by them; None: 1 for all.
        rotation: orthogonal, shape (channels, channels): what rows of weights are multiplied by before they are
            quantized, as the activation was; None: nothing.
        group: how many input channels have a scale of their own in each row of the weights; None: all have one.
    """

    rounds: Round
    factors: Tensor | None = None
    rotation: Tensor | None = None
    group: int | None = None

    def there(self, weights: Tensor) -> Tensor:
        """Weights (…, channels) as they are quantized."""
        scaled = weights if self.factors is None else weights * self.factors
        return scaled if self.rotation is None else scaled @ self.rotation.to(scaled.dtype)

    def back(self, weights: Tensor) -> Tensor:
        """What became of them, for values as they were."""
        turned = weights if self.rotation is None else weights @ self.rotation.to(weights.dtype).T
        return turned if self.factors is None else turned / self.factors


@dataclass(frozen=True, eq=False)
class Op:
    """What reads an activation.

    Attributes:
        run: the activation to the float op's output; its other operands are those of the float network.
        scores: whether the output goes into a softmax.
    """

    run: Round
    scores: bool = False


class Quantizer(ABC):
    """A rule. `paper` names its source, `integers` says what integer kernels make of it."""

    paper: ClassVar[str] = ""
    integers: ClassVar[str] = ""

    @abstractmethod
    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The rule's quantizer for values such as these."""

    def fit_output(self, x: Tensor, bits: int, op: Op) -> Fitted:
        """The same, of a rule that looks at the output of the first op that reads the values."""
        return self.fit(x, bits)


@dataclass(frozen=True)
class Uniform(Quantizer):
    """Equal steps between a smallest and a largest value.

    Attributes:
        search: how the range is found: the extremes; the range of all but `share` of the values at each end; the one of
            least squared error; the one of highest cosine similarity (EasyQuant, equation 5).
        along: one range for the whole tensor, for each channel (last axis), or for each position (the axis before it).
        share: for "percentile".
    """

    search: Search = "mse"
    along: Literal["tensor", "channel", "position"] = "tensor"
    share: float = 1e-3
    paper: ClassVar[str] = "EasyQuant (Wu et al. 2020) for the cosine; ADFQ-ViT (Jiang et al. 2024) for positions"
    integers: ClassVar[str] = "8 and 16 bits per tensor; along positions by a MUL"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """Ranges by the search."""
        low, high = searched(x, bits, self.search, _reduced(x, self.along), self.share)
        return Fitted(lambda v: uniform(v, low, high, bits))


@dataclass(frozen=True)
class Dynamic(Quantizer):
    """A range for each token of each sample, found when it is there (ZeroQuant's token-wise activations)."""

    paper: ClassVar[str] = "ZeroQuant (Yao et al. 2022), section 4.1"
    integers: ClassVar[str] = "LiteRT's hybrid kernels at 8 bits, with float activations"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """Nothing is fitted."""
        return Fitted(lambda v: uniform(v, v.amin(-1, keepdim=True), v.amax(-1, keepdim=True), bits))


@dataclass(frozen=True)
class Reparameterized(Quantizer):
    """Channels with ranges of their own, folded into the norm before and the weights after.

    Attributes:
        center: the scale that all channels get: the mean of theirs (RepQ-ViT, equation 9), or their median, which few
            channels of a large range do not move (DopQ-ViT's choice by mean absolute deviation).
        clip: how the channels' ranges are found; least squared error of each is RepQuant's dual clipping.
    """

    center: Literal["mean", "median"] = "mean"
    clip: Search = "percentile"
    paper: ClassVar[str] = "RepQ-ViT (Li et al. 2023), RepQuant (Li et al. 2024), DopQ-ViT (Yang et al. 2024)"
    integers: ClassVar[str] = "yes, as one scale per tensor: `equalization` finds such factors for files"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """Ranges per channel, and the factors that weights meet."""
        low, high = searched(x, bits, self.clip, tuple(range(x.ndim - 1)), 1e-3)
        scale = ((high - low) / (2**bits - 1)).flatten()
        middle = scale.median() if self.center == "median" else scale.mean()
        factors = (scale / middle.clamp_min(TINY)).clamp_min(TINY)
        return Fitted(lambda v: uniform(v, low, high, bits), factors)


@dataclass(frozen=True)
class Smoothed(Quantizer):
    """Part of a channel's range moves into the weights: x / f in one range, weights times f.

    Attributes:
        alpha: f is (largest |x| of the channel) to this power; the weights' own ranges are left out of it.
    """

    alpha: float = 0.5
    paper: ClassVar[str] = "SmoothQuant (Xiao et al. 2023), equation 4 with the activations' share alone"
    integers: ClassVar[str] = "yes: `equalization` with smoothing"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """Factors, and one range of what is left."""
        largest = x.abs().amax(dim=tuple(range(x.ndim - 1))).clamp_min(1e-5)
        factors = largest**self.alpha
        factors = factors / torch.exp(factors.log().mean())
        low, high = searched(x / factors, bits, "mse", tuple(range(x.ndim)), 0)
        return Fitted(lambda v: uniform(v / factors, low, high, bits) * factors, factors)


@dataclass(frozen=True)
class Logarithmic(Quantizer):
    """Steps that grow with the value: s · base^(−q), for values from 0 to s.

    Attributes:
        base: 2, or its root (RepQ-ViT, equation 11).
        shift: added first and subtracted afterwards, so that values a little below 0 fit (ADFQ-ViT's shift-log2 behind
            GELU, whose least value is −0.17).
    """

    base: float = 2**0.5
    shift: float = 0.0
    paper: ClassVar[str] = "RepQ-ViT (Li et al. 2023); ADFQ-ViT (Jiang et al. 2024) with a shift"
    integers: ClassVar[str] = "no: kernels know equal steps alone"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The largest value is the only parameter."""
        import math

        largest = (x + self.shift).max().clamp_min(TINY)
        step, most = math.log2(self.base), 2**bits - 1

        def rounds(v: Tensor) -> Tensor:
            q = (-((v + self.shift).clamp_min(TINY) / largest).log2() / step).round().clamp(0, most)
            return largest * (-q * step).exp2() - self.shift

        return Fitted(rounds)


@dataclass(frozen=True)
class TwoRanges(Quantizer):
    """Two uniform ranges of 2^(bits−1) steps each, which one bit distinguishes; their steps differ by a power of two.

    For values of both signs one range is negative and one positive; otherwise one is fine and ends early, and the other
    one reaches the largest value.
    """

    paper: ClassVar[str] = "PTQ4ViT (Yuan et al. 2022), section 3.1"
    integers: ClassVar[str] = "no: one scale per tensor in the kernels"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The pair of steps with the least squared error."""
        half, best = 2 ** (bits - 1), (float("inf"), 0.0, 0.0)
        for k in range(CANDIDATES):
            coarse = float(x.max()) * (NARROWEST + (1 - NARROWEST) * (k + 1) / CANDIDATES) / (half - 1)
            for m in range(12):
                fine = coarse / 2**m
                error = float((_two_ranges(x, fine, coarse, half) - x).square().mean())
                best = min(best, (error, fine, coarse))
        _, fine, coarse = best
        return Fitted(lambda v: _two_ranges(v, fine, coarse, half))


def _two_ranges(x: Tensor, fine: float, coarse: float, half: int) -> Tensor:
    if fine <= 0:
        return torch.zeros_like(x)
    upper = (x / coarse).round().clamp(0, half - 1) * coarse
    if bool((x < 0).any()):
        return torch.where(x < 0, (x / fine).round().clamp(-half, 0) * fine, upper)
    lower = (x / fine).round().clamp(0, half - 1) * fine
    return torch.where(x <= fine * (half - 1), lower, upper)


@dataclass(frozen=True)
class Tangent(Quantizer):
    """Steps that shrink towards the largest value: q = round(tan(a·x/s) / tan(a) · (2^bits − 1)).

    Attributes:
        angles: values of a that are tried, in radians, each below π/2; the least squared error decides.
    """

    angles: tuple[float, ...] = (0.2, 0.6, 0.9, 1.1, 1.25, 1.35, 1.45)
    paper: ClassVar[str] = "DopQ-ViT (Yang et al. 2024): TanQ as its abstract describes it; angles are searched here"
    integers: ClassVar[str] = "no: kernels know equal steps alone"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The angle that loses least."""
        largest, most = x.max().clamp_min(TINY), 2**bits - 1
        errors = [float((_tangent(x, a, largest, most) - x).square().mean()) for a in self.angles]
        angle = self.angles[errors.index(min(errors))]
        return Fitted(lambda v: _tangent(v, angle, largest, most))


def _tangent(x: Tensor, angle: float, largest: Tensor, most: int) -> Tensor:
    import math

    whole = math.tan(angle)
    q = ((x / largest).clamp(0, 1).mul(angle).tan() / whole * most).round()
    return (q / most * whole).atan() / angle * largest


@dataclass(frozen=True)
class Noisy(Quantizer):
    """Fixed uniform noise of half a step on each channel, added before rounding and subtracted afterwards."""

    paper: ClassVar[str] = "NoisyQuant (Liu et al. 2023), theorem 1"
    integers: ClassVar[str] = "the noise costs an ADD before and goes into the bias behind"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The same noise for the same number of channels, kept where it lowers the squared error."""
        low, high = searched(x, bits, "mse", tuple(range(x.ndim)), 0)
        step = (high - low) / (2**bits - 1)
        noise = (torch.rand(x.shape[-1], generator=torch.Generator().manual_seed(0)) - 0.5) * step.flatten()
        errors = [float((uniform(x + n, low, high, bits) - n - x).square().mean()) for n in (0 * noise, noise)]
        chosen = noise if errors[1] < errors[0] else 0 * noise
        return Fitted(lambda v: uniform(v + chosen, low, high, bits) - chosen)


@dataclass(frozen=True)
class Focused(Quantizer):
    """Equal steps over the interval of values that matters most, not over all of them: both ends are searched.

    The squared error that decides is weighed by the values' own size: small attention weights hardly count.
    """

    paper: ClassVar[str] = "AIQViT (Jiang et al. 2025): its dynamic focusing quantizer, with the search in closed steps"
    integers: ClassVar[str] = "8 and 16 bits: it is one scale and zero point"

    def fit(self, x: Tensor, bits: int) -> Fitted:
        """The interval among quantiles of the values."""
        flat = _some(x.flatten())
        ends = torch.quantile(flat, torch.tensor([0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0]))
        best, chosen = float("inf"), (ends[:1], ends[-1:])
        for low in ends[:5]:
            for high in ends[5:]:
                if high - low < TINY:
                    continue
                error = (uniform(flat, low, high, bits) - flat).square() * flat.abs()
                if float(error.sum()) < best:
                    best, chosen = float(error.sum()), (low, high)
        low, high = chosen
        return Fitted(lambda v: uniform(v, low, high, bits))


def uniform(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Values on 2^bits equal steps from low to high; the zero point is an integer, so that 0 is exact where it fits.

    Args:
        x: any shape.
        low: smallest value, broadcast over it.
        high: largest value, likewise.
        bits: of the integers.
    """
    scale = ((high - low) / (2**bits - 1)).clamp_min(TINY)
    zero = (-low / scale).round()
    rounded: Tensor = ((x / scale).round() + zero).clamp(0, 2**bits - 1).sub(zero).mul(scale)
    return rounded


def searched(x: Tensor, bits: int, search: Search, axes: Sequence[int], share: float) -> tuple[Tensor, Tensor]:
    """Ranges of values, with the reduced axes kept at length 1.

    Args:
        x: shape (samples, …, channels).
        bits: of the integers.
        search: see `Uniform`.
        axes: that share one range.
        share: of the values that lie outside at each end, for "percentile".
    """
    low, high = x.amin(tuple(axes), keepdim=True), x.amax(tuple(axes), keepdim=True)
    if search == "minmax":
        return low, high
    if search == "percentile":
        left = [k for k in range(x.ndim) if k not in axes]
        flat = x.permute(*left, *axes).reshape(*[x.shape[k] for k in left], -1)
        count = flat.shape[-1]
        k = min(count - 1, round(share * count))
        ordered = flat.sort(dim=-1).values
        return ordered[..., k].reshape(low.shape), ordered[..., count - 1 - k].reshape(high.shape)
    best = torch.full_like(low, float("inf"))
    chosen = low, high
    for k in range(CANDIDATES + 1):
        share_left = 1 - (1 - NARROWEST) * k / CANDIDATES
        lower, upper = low * share_left, high * share_left
        rounded = uniform(x, lower, upper, bits)
        if search == "mse":
            lost = (rounded - x).square().mean(tuple(axes), keepdim=True)
        else:
            product = (rounded * x).sum(tuple(axes), keepdim=True)
            norms = rounded.square().sum(tuple(axes), keepdim=True) * x.square().sum(tuple(axes), keepdim=True)
            lost = 1 - product / norms.clamp_min(TINY).sqrt()
        better = lost < best
        best = torch.where(better, lost, best)
        chosen = torch.where(better, lower, chosen[0]), torch.where(better, upper, chosen[1])
    return chosen


def _reduced(x: Tensor, along: str) -> tuple[int, ...]:
    kept = {"tensor": set[int](), "channel": {x.ndim - 1}, "position": {x.ndim - 2}}[along]
    return tuple(k for k in range(x.ndim) if k not in kept)


def _some(flat: Tensor) -> Tensor:
    """At most a million of the values, evenly spread: torch.quantile refuses more than 16 million."""
    return flat[:: max(1, len(flat) // 1_000_000)]
