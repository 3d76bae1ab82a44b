"""How the scales of weights are chosen, where not by the largest weight of each channel."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

from edgeqwt.graph.graph import Array
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.scales import weight_scales
from edgeqwt.scales.importance import weight_importance
from edgeqwt.scales.scales import Scales


class WeightScales(Technique):
    """A rule (`scales.weight_scales.WeightRule`) that a recipe can name; subclasses have its `choose`."""

    title = "choose weight scales"
    works = Works.SCALES
    role = "scales of weights"

    @abstractmethod
    def choose(self, rows: Array, importance: Array, widest: Array, limit: int) -> Array:
        """See WeightRule."""

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The scales of all constant weights that one linear op alone reads."""
        importance = weight_importance(state.graph, iter(context.fit))
        found = weight_scales.ruled(state.graph, state.precision, self, importance)
        return replace(state, scales=state.scales.over(Scales(weights=found))), Account(data={"layers": len(found)})


@dataclass(frozen=True)
class MseWeightScales(weight_scales.MseWeights, WeightScales):
    __doc__ = weight_scales.MseWeights.__doc__
    name = "mse_weight_scales"
    paper = "OMSE (Kravchik et al. 2019), section 3.2; OCTAV (Sakr et al. 2022), eq. 1"
    measured = "ResNet-20 alone: w8a8 -0.2 dB, w4a8 -3.6 dB; on top of `balanced`: 0.0, +0.3 dB (docs/recipes.md)"


@dataclass(frozen=True)
class PowerOfTwoWeightScales(weight_scales.PowerOfTwoWeights, WeightScales):
    __doc__ = weight_scales.PowerOfTwoWeights.__doc__
    name = "power_of_two_weight_scales"
    paper = "HPTQ (Habi et al. 2021), section 3.2"
