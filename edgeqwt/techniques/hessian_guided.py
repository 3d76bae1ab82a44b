"""PTQ4ViT's guide: scales searched layer by layer by squared gradients times squared errors."""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.autograd.memory import BYTES, activations, to_load
from edgeqwt.passes.state import State
from edgeqwt.scales import search_layers
from edgeqwt.techniques.scale_search import Search


@dataclass(frozen=True)
class HessianGuided(search_layers.HessianGuided, Search):
    __doc__ = search_layers.HessianGuided.__doc__
    name = "hessian_guided"
    gradients = "scales guided by the Hessian"
    paper = "PTQ4ViT (Yuan et al. 2022), section 3.3"
    measured = (
        "ResNet-20 alone: w8a8 0.0 dB, w4a8 +4.5 dB; on top of `balanced`: 0.0, -0.2 dB: in no recipe (docs/recipes.md)"
    )

    def memory(self, state: State) -> int:
        """See Technique; gradients are of one sample at a time."""
        return to_load() + BYTES * activations(state.graph)
