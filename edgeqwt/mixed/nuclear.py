"""The sensitivity of layers by the nuclear norm of what they compute, instead of by the model's outputs.

Liu et al. 2021 ("Post-Training Quantization for Vision Transformer"), mixed precision: a width's price in quality is
the sum of the singular values of the float map times the squared error of the rounded one. A map is here the output of
each linear layer, as a matrix of positions and channels. It looks at one layer alone: nothing behind it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.mixed.degradation import degradations, with_rounded_weights
from edgeqwt.mixed.width_groups import Layer
from edgeqwt.progress import Advance
from edgeqwt.runtime.runners import Values
from edgeqwt.verify.running import side_by_side


def nuclear_degradations(
    graph: Graph,
    layers: Sequence[Layer],
    rounded: Mapping[int, Graph],
    samples: Iterable[Mapping[int, Array]],
    advance: Advance,
) -> dict[str, dict[int, float]]:
    """By layer and bits, in the unit of `degradations`: those of the fewest bits add up to what all of them do at once.

    Args:
        graph: float.
        layers: with weights to round.
        rounded: integer graphs lowered from it, by the bits of their weights.
        samples: graph inputs by tensor index; read several times.
        advance: called with (layers done, layers in all).
    """
    found: dict[str, dict[int, float]] = {}
    for done, layer in enumerate(layers, start=1):
        found[layer.name] = _prices(graph, layer, rounded, samples)
        advance(done, len(layers))
    fewest = min(rounded)
    whole = reduce(lambda g, layer: with_rounded_weights(g, layer.weight, rounded[fewest]), layers, graph)
    (measured,) = degradations(graph, [lambda: whole], samples)
    total = sum(prices[fewest] for prices in found.values())
    unit = measured / total if total > 0 else 0.0
    return {name: {bits: price * unit for bits, price in prices.items()} for name, prices in found.items()}


def nuclear_norm(values: Array) -> float:
    """The sum of the singular values of a map, shape (…, positions, channels): of all positions in one matrix."""
    return float(np.linalg.svd(values.reshape(-1, values.shape[-1]).astype(np.float64), compute_uv=False).sum())


def _prices(
    graph: Graph, layer: Layer, rounded: Mapping[int, Graph], samples: Iterable[Mapping[int, Array]]
) -> dict[int, float]:
    """Nuclear norm times squared error, summed over samples and ops, by bits."""
    maps = [graph.ops[i].outputs[0] for i in layer.ops]
    variants = {str(bits): (with_rounded_weights(graph, layer.weight, g), maps) for bits, g in rounded.items()}

    def work(exact: Values, found: dict[str, Values]) -> Array:
        norms = {t: nuclear_norm(exact[t]) for t in maps}
        errors = ({t: np.square(found[str(b)][t].astype(np.float64) - exact[t]).sum() for t in maps} for b in rounded)
        return np.array([sum(norms[t] * error[t] for t in maps) for error in errors])

    total = sum(side_by_side(graph, maps, variants, samples, work), np.zeros(len(rounded)))
    return dict(zip(rounded, map(float, total), strict=True))
