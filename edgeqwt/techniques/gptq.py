"""GPTQ: each weight is rounded with the later ones making up for it.

Options and mathematics are those of `rounding.methods.Gptq`; `weight_rounding.Rounding` applies it and has it judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.rounding import methods
from edgeqwt.techniques.weight_rounding import Rounding


@dataclass(frozen=True)
class Gptq(methods.Gptq, Rounding):
    __doc__ = methods.Gptq.__doc__
    name = "gptq"
    paper = "GPTQ (Frantar et al. 2022), algorithm 1"
    measured = (
        "ResNet-20, with float targets, 8 scales and refinement, alone: w8a8 +0.6 dB, w4a8 +12.1 dB (docs/recipes.md)"
    )
    gains_db = (0.6, 12.1)
