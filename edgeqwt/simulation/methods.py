"""The settings of papers: which quantizer each kind of activation gets, and how weights are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeqwt.rounding.codebook import Codebook
from edgeqwt.rounding.methods import Erq, Gptq, Nearest, RoundingRule
from edgeqwt.simulation.diffusion import Balanced, Grouped, Rotated, SignedLog
from edgeqwt.simulation.quantizers import (
    Dynamic,
    Focused,
    Logarithmic,
    Noisy,
    Quantizer,
    Reparameterized,
    Smoothed,
    Tangent,
    TwoRanges,
    Uniform,
)
from edgeqwt.simulation.similarity import Correlated
from edgeqwt.simulation.sites import Role

GELU_SHIFT = 0.17
"""What moves GELU's least value, −0.16997, to 0."""


@dataclass(frozen=True)
class Method:
    """One row of a study.

    Attributes:
        paper: what it is made from.
        what: it does, in a few words.
        default: the quantizer of activations that `special` does not name.
        special: quantizers of activations of one role.
        weights: how weights are rounded.
    """

    paper: str
    what: str
    default: Quantizer = field(default_factory=Uniform)
    special: Mapping[Role, Quantizer] = field(default_factory=dict)
    weights: RoundingRule | Codebook | SignedLog = field(default_factory=Nearest)

    def quantizer(self, role: Role) -> Quantizer:
        """The quantizer of activations of a role."""
        return self.special.get(role, self.default)


METHODS: Mapping[str, Method] = {
    "plain": Method("", "extremes as ranges", Uniform("minmax")),
    "percentile": Method("", "ranges without one value in a thousand at each end", Uniform("percentile")),
    "mse": Method("", "ranges of least squared error"),
    "easyquant": Method("EasyQuant (Wu et al. 2020)", "ranges of highest cosine similarity", Uniform("cosine")),
    "liu2021": Method(
        "PTQ for ViT (Liu et al. 2021)",
        "ranges by the correlation of outputs; scores of attention keep their order",
        Correlated(),
    ),
    "zeroquant": Method("ZeroQuant (Yao et al. 2022)", "a range for each token, found at run time", Dynamic()),
    "smoothquant": Method(
        "SmoothQuant (Xiao et al. 2023)", "part of the channels' ranges in the weights", special={Role.NORM: Smoothed()}
    ),
    "noisyquant": Method("NoisyQuant (Liu et al. 2023)", "fixed noise before rounding, subtracted behind", Noisy()),
    "ptq4vit": Method(
        "PTQ4ViT (Yuan et al. 2022)",
        "two ranges behind softmax and GELU",
        special={Role.SOFTMAX: TwoRanges(), Role.GELU: TwoRanges()},
    ),
    "repq_vit": Method(
        "RepQ-ViT (Li et al. 2023)",
        "norms' channels reparameterized, logarithmic steps behind softmax",
        Uniform("percentile"),
        {Role.NORM: Reparameterized(), Role.SOFTMAX: Logarithmic()},
    ),
    "repquant": Method(
        "RepQuant (Li et al. 2024)",
        "as repq_vit, ranges of both by least squared error",
        special={Role.NORM: Reparameterized(clip="mse"), Role.SOFTMAX: Logarithmic()},
    ),
    "dopq_vit": Method(
        "DopQ-ViT (Yang et al. 2024)",
        "tangent steps behind softmax, norms' channels by the median scale",
        special={Role.NORM: Reparameterized("median", "mse"), Role.SOFTMAX: Tangent()},
    ),
    "adfq_vit": Method(
        "ADFQ-ViT (Jiang et al. 2024)",
        "a range per position behind norms, shifted logarithmic steps behind GELU",
        special={Role.NORM: Uniform("mse", "position"), Role.GELU: Logarithmic(2.0, GELU_SHIFT)},
    ),
    "positions": Method(
        "ADFQ-ViT (Jiang et al. 2024), its ranges alone",
        "a range per position, for every operand",
        Uniform("mse", "position"),
    ),
    "aiqvit": Method(
        "AIQViT (Jiang et al. 2025)", "the interval that matters behind softmax", special={Role.SOFTMAX: Focused()}
    ),
    "ptq4dit": Method(
        "PTQ4DiT (Wu et al. 2024)",
        "channels of activations and weights balanced over time steps",
        Balanced(),
        {Role.GELU: Uniform()},
    ),
    "q_dit": Method("Q-DiT (Chen et al. 2024)", "ranges per token and group of channels, of searched size", Grouped()),
    "lrq_dit": Method(
        "LRQ-DiT (Yang et al. 2025)",
        "weights on logarithmic steps of both signs, inputs rotated where that pays",
        Rotated(),
        weights=SignedLog(),
    ),
    "vq4dit": Method(
        "VQ4DiT (Deng et al. 2024)",
        "weights from codebooks of sub-vectors, a byte for each: of two terms at 4 bits",
        weights=Codebook(smallest=1),
    ),
    "gptq": Method("GPTQ (Frantar et al. 2022)", "weights by second moments", weights=Gptq()),
    "erq": Method("ERQ (Zhong et al. 2024)", "weights refitted to integer inputs, rounded by halves", weights=Erq()),
}
"""By the name that commands take."""
