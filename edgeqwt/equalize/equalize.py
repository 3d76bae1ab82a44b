"""Give every channel of the float graph the magnitude at which rounding costs least, function unchanged.

Cross-layer equalization (Nagel et al. 2019, section 4.1) rests on f(k x) = k f(x): what one layer
multiplies, the next one divides. SmoothQuant (Xiao et al. 2022, eq. 4) uses the same freedom to move
the difficulty from activations into weights, by an exponent. Here the factors minimize a model of the
error at the outputs (`equalize.noise`), so that they know which channels matter, through every path
that the factors must be equal on (residual connections), and for the widths at hand: at 8-bit weights
they favour activations, at 4 bits weights, through depthwise layers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.equalize.absorb import absorb
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.copy_sensitivity import Sensitivities, sensitivities
from edgeqwt.equalize.factors import Channels
from edgeqwt.equalize.multiply import multiplied
from edgeqwt.equalize.noise import Noise, Seen, Stored, noise, observe_elements
from edgeqwt.equalize.norms import Opened, needed, opened
from edgeqwt.extras import NO_GRADIENTS
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.scales.activations import assign
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision

RATE = 0.05  # of the descent, in logarithms of factors
WORTH_A_NORM_DB = 0.5


@dataclass(frozen=True)
class Equalization:
    """How channels are equalized.

    Attributes:
        samples: how many samples gradients and extremes are taken from, at most.
        limit: factors stay within [1 / limit, limit].
        steps: of the descent.
        absorb: whether biases then absorb what channels never fall below (`equalize.absorb`). Where a channel
            does fall below it on other inputs, the function is another one.
        norms: whether normalizations may be rewritten so that their channels have factors (`equalize.norms`), where
            the model expects it to gain; more than half a decibel if it costs ops.
        margin: with absorb: how far below a channel's smallest value that stays, as a share of its span.
    """

    samples: Annotated[int, Ge(1)] = 64
    limit: Annotated[float, Ge(1)] = 64.0
    steps: Annotated[int, Ge(1)] = 200
    norms: bool = True
    absorb: bool = False
    margin: Annotated[float, Interval(ge=0, le=1)] = 0.1


@dataclass(frozen=True, eq=False)
class Equalized:
    """An equalized graph.

    Attributes:
        graph: computes the same function, up to the rounding of float32 and what `absorbed` says; the same graph
            if there was no use. The tensors of the old graph have their old indices.
        changed: number of channels whose factor is not 1.
        low, high: the smallest and the largest factor.
        predicted_db: by how many decibels the model expects the error at the outputs to fall.
        skipped: why nothing was done; empty otherwise.
        absorbed: number of channels whose least value went into biases: where inputs make them smaller than all
            samples did, they stop short.
        precision: widths for the graph, with those of activations that are new (`equalize.norms`); None where
            nothing was done.
    """

    graph: Graph
    changed: int = 0
    low: float = 1.0
    high: float = 1.0
    predicted_db: float = 0.0
    skipped: str = ""
    absorbed: int = 0
    precision: Precision | None = None


def equalize(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    options: Equalization,
    precision: Precision,
) -> Equalized:
    """The float graph with its channels multiplied, and what reads them divided, by the best factors.

    Args:
        graph: float, lowerable.
        samples: graph inputs by tensor index; `options.samples` of them are read, once; to absorb, all are read again.
        statistics: of the graph's activations.
        options: see Equalization.
        precision: the widths that the graph will be lowered to.
    """
    found = _multiplied_best(graph, samples, statistics, options, precision)
    if not options.absorb:
        return found
    shifted = absorb(found.graph, samples, options.margin)
    reason = "" if shifted.channels else found.skipped
    return replace(found, graph=shifted.graph, absorbed=shifted.channels, skipped=reason)


def _multiplied_best(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    options: Equalization,
    precision: Precision,
) -> Equalized:
    try:
        import torch  # noqa: F401 (whether it is there)
    except ImportError:
        return Equalized(graph, skipped=NO_GRADIENTS)
    decisive = decision_tensors(graph)
    wider = opened(graph) if options.norms else Opened(graph, {}, 0)
    if not decisive or not (channels(graph).unknowns > 1 or wider.spread or wider.squares):
        return Equalized(graph, skipped="no channel is free to be multiplied")
    some = list(islice(samples, options.samples))
    widths = wider.precision(precision)
    found_sensitivities = sensitivities(wider.graph, some, decisive, planned(wider.graph, widths))
    seen = observe_elements(wider.graph, some)
    known = {**statistics, **{new: statistics[old] for new, old in wider.spread.items()}}
    found, error = _best(graph, found_sensitivities, seen, statistics, options, precision)
    if wider.spread or wider.squares:
        other, least = _best(wider.graph, found_sensitivities, seen, known, options, widths)
        if least < error * (10 ** (-WORTH_A_NORM_DB / 10) if wider.spread else 1):
            shorter, widths = needed(other.graph, widths)
            return replace(other, graph=shorter, precision=widths)
    return found


def _best(
    graph: Graph,
    found_sensitivities: Sensitivities,
    seen: Mapping[int, Seen],
    statistics: Mapping[int, Statistics],
    options: Equalization,
    precision: Precision,
) -> tuple[Equalized, float]:
    """The graph with the best factors, and the error that the model expects of it."""
    found = channels(graph)
    by_factor = {t: seen[t].by_factor(factors, found.count) for t, factors in found.of.items()}
    assignment = assign(graph, statistics, MinMax(), planned(graph, precision))
    model = noise(graph, found, by_factor, found_sensitivities, assignment, precision)
    logs = np.where(_dead(model, found), 0.0, _minimized(model, found, options))
    factors = found.factors(logs)
    before, after = (model.at(f)[0] for f in (np.ones(found.count), factors))
    gain = 10 * float(np.log10(before / after)) if after > 0 else 0.0
    extremes = float(factors.min()), float(factors.max())
    changed = int((factors != 1).sum())
    return Equalized(multiplied(graph, found, factors), changed, *extremes, gain, precision=precision), after


def _minimized(model: Noise, channels: Channels, options: Equalization) -> Array:
    """The logarithms of the unknowns with the least error: Adam (Kingma and Ba 2015) on the error's logarithm."""
    logs, mean, square = (np.asarray(np.zeros(channels.unknowns)) for _ in range(3))
    reach = float(np.log(options.limit))
    for step in range(options.steps):
        error, by_factor = model.at(channels.factors(logs))
        if error <= 0:
            break
        slope = np.bincount(channels.unknown, channels.exponent * by_factor, channels.unknowns) / error
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rate = RATE * (1 + np.cos(np.pi * step / options.steps)) / 2
        size = np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8
        logs = np.clip(logs - rate * mean / (1 - 0.9 ** (step + 1)) / size, -reach, reach)
    return logs


def _dead(model: Noise, channels: Channels) -> Array:
    """The unknowns of channels that were zero on all samples: nothing is known of them."""
    alive = np.zeros(channels.unknowns, bool)
    for term in model.terms:
        if isinstance(term, Stored):
            alive[channels.unknown[term.factors[(term.high > 0) | (term.low < 0)]]] = True
    return ~alive
