"""Codebooks: weights cut into sub-vectors, each of them one of the few that its layer has.

Options and mathematics are those of `rounding.codebook.Codebook`; what a file holds is `lowering.codebooks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Interval

from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.reconstruct import learned_rounding
from edgeqwt.rounding import codebook
from edgeqwt.techniques.gptq import Gptq
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.techniques.weight_rounding import Rounding

FEWEST = 2  # bits of equal steps that a codebook is compared with
EQUAL = Gptq(float_targets=True, scales=8, refine=True)  # how weights are rounded to these


@dataclass(frozen=True)
class Codebook(codebook.Codebook, Rounding):
    """Weights from a codebook of sub-vectors per layer: `bits` / `length` bits for each weight (Deng et al. 2024).

    Codewords come from k-means whose errors count as the squares of the inputs do; then they and the assignments are
    calibrated in turn by the layer's error. They are int8, with a scale per channel as without: kernels see int8
    weights. Kept where that is better than `gptq` with as many bits in equal steps on held-out samples.

    Attributes:
        lookup: store codewords and indices, from which each run gathers the weights; where the target's kernels need
            constant weights (TFLite Micro), or with false, the integers themselves, which compress.
    """

    name = "codebook"
    paper = "VQ4DiT (Deng et al. 2024), assignments in closed form; GPTVQ (van Baalen et al. 2024), first assignment"
    measured = (
        "a diffusion transformer's velocity: 22.3, 18.4 and 15.4 dB with sub-vectors of 2, 3 and 4; gptq in equal "
        "steps 17.7 at 4 bits and 11.9 at 3 (docs/literature-in-files.md)"
    )
    for_dynamic: ClassVar[bool] = False
    keeps_clusters: ClassVar[bool] = True
    lookup: bool = True

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """Weights from codebooks, or as they were where equal steps of as many bits are better on held-out samples."""
        found = self.found(state, context)
        after = replace(state, integer=found)
        if not decision_tensors(context.graph):  # no float output: there is no error to judge by
            return after, Account()
        bits = max(FEWEST, math.ceil(self.bits / self.length))
        narrow = replace(state, precision=replace(state.precision, weight_bits=bits), integer=None)
        equal = EQUAL.found(context.with_integer(narrow), context)
        gain, lost = context.gate.gain_db(equal, found), context.gate.gain_db(found, state.integer_graph)
        if context.gate.noise(found) > context.gate.noise(equal):
            reason = f"equal steps of {bits} bits are {-gain:.2f} dB better on held-out samples"
            return state, Account((f"no codebook: {reason}",), {"skipped": reason}, kept=False)
        said = f"{gain:+.2f} dB beside equal steps of {bits} bits, {-lost:+.2f} dB beside the weights as they were"
        return after, Account((said,), {"gain_db": gain, "bits": bits, "lost_db": lost})


@dataclass(frozen=True)
class CodebookCalibration(Reconstruction):
    """Codewords and assignments that `codebook` made, learned together towards the float network (Deng et al. 2024).

    Each sub-vector is the mean of a few candidates by ratios of a softmax, which end at 0 and 1. Options are those of
    `reconstruction`.
    """

    name = "codebook_calibration"
    paper = "VQ4DiT (Deng et al. 2024)"
    measured = ""
    rounding: learned_rounding.Order = "codebook"
    iterations: Annotated[int, Interval(ge=1, le=1_000_000)] = 200
    batch: Annotated[int, Interval(ge=1, le=65_536)] = 16
    rate: Annotated[float, Interval(ge=1e-8, le=1)] = 0.1
