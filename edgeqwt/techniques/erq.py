"""ERQ: half of the weights are rounded at a time, the rest refitted.

Options and mathematics are those of `rounding.methods.Erq`; `weight_rounding.Rounding` applies it and has it judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.rounding import methods
from edgeqwt.techniques.weight_rounding import Rounding


@dataclass(frozen=True)
class Erq(methods.Erq, Rounding):
    __doc__ = methods.Erq.__doc__
    name = "erq"
    paper = "ERQ (Zhong et al. 2024)"
