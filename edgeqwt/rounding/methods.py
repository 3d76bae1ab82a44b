"""How weights are rounded to integers: to nearest, or with later weights making up for earlier ones.

A rule is a frozen dataclass whose fields are its options. The mathematics is in `least_squares`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import batched
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.cholesky import cholesky
from edgeqwt.rounding.least_squares import (
    Method,
    damped,
    fitted_scale,
    half_by_half,
    largest_first,
    nearest,
    one_by_one,
    permuted,
    refitted,
    stepped,
)
from edgeqwt.rounding.ridge import best_ridge, best_ridge_of_rows
from edgeqwt.runtime.parallel import THREADS, ordered

NARROWEST = 0.6  # of the scale at which no weight is clipped: below it, 4-bit weights lose more than they win
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)  # to choose from; the last one leaves weights as they are
MANY = 512  # terms from which on scales are tried on several threads, and not all where few do
TURN = 2  # scales that are tried before channels that lose by the narrower ones are done
LOST = 2.0  # times the smallest loss
POLISHES = 3  # turns of steps and scales; later ones change next to nothing


@dataclass(frozen=True, eq=False)
class Layer:
    """What a rule knows of a linear op; float64, in groups of output channels that meet the same inputs.

    Attributes:
        weights: real, shape (groups, channels, terms).
        scale: of each channel as the graph has it, shape (groups, channels).
        limit: integers lie within +-limit.
        hessian: sum of x x^T over the inputs x that the weights meet, shape (groups, terms, terms).
        pull: sum of w (y - x) x^T, of the weights' shape, with y the same inputs in the float network; None where
            nobody asked for it.
        folds: hessian and pull of each of some parts of the samples; empty without pull.
        bounds: smallest and largest scale that each channel can have, of the shape of `scale`, or None
            where the scales cannot change.
        zeros: where integers must be zero, shape of the weights; None for nowhere.
        rows: of layers with many terms, in place of `folds`: some of each fold's inputs x, shape (groups, rows, terms),
            and w (y - x) of them, shape (groups, rows, channels).
        parted: the groups are parts of the same channels' terms (`blocks`), and a channel has one scale in all of them.
        coupling: how errors of the channels of one head count together (`attention`), shape (heads, channels of a
            head, the same); None where each channel's error counts by itself. There is one group then.
    """

    weights: Array
    scale: Array
    limit: int
    hessian: Array
    pull: Array | None = None
    folds: tuple[tuple[Array, Array], ...] = ()
    bounds: tuple[Array, Array] | None = None
    zeros: Array | None = None
    rows: tuple[tuple[Array, Array], ...] = ()
    parted: bool = False
    coupling: Array | None = None

    def by_channel(self, values: Array) -> Array:
        """What is known of each group's channels, (groups, channels), added up over the parts of a channel."""
        return np.broadcast_to(values.sum(axis=0), values.shape) if self.parted else values

    def part(self, channels: Array) -> Layer:
        """Some channels of a single group, as far as rounding looks at them once weights are refitted."""
        return replace(
            self,
            weights=self.weights[:, channels],
            scale=self.scale[:, channels],
            bounds=None if self.bounds is None else (self.bounds[0][:, channels], self.bounds[1][:, channels]),
            zeros=None if self.zeros is None else self.zeros[:, channels],
            coupling=None,
        )


@dataclass(frozen=True, eq=False)
class Rounded:
    """Integers (float64, of the weights' shape) and their scales."""

    integers: Array
    scale: Array


@dataclass(frozen=True)
class Nearest:
    """Each weight to the nearest integer."""

    samples: ClassVar[int] = 1  # its inputs do not matter to it
    float_targets: ClassVar[bool] = False
    attention: ClassVar[bool] = False

    def round(self, layer: Layer) -> Rounded:
        """Looks at weights and scales alone."""
        return Rounded(nearest(layer.weights, layer.scale, layer.limit), layer.scale)


@dataclass(frozen=True)
class Gptq:
    """Second-order rounding: GPTQ (Frantar et al. 2022, algorithm 1), after Optimal Brain Surgeon.

    Weights are rounded one term at a time; the error of each is spread over the terms that are
    still real, so that the layer's output on the calibration inputs changes least.

    Attributes:
        damping: added to the Hessian's diagonal, as a share of its mean.
        samples: how many samples the Hessian is summed over, at most.
        float_targets: aim at what the float layer computes from the float network's inputs, not at what it
            computes from the inputs that the integer layer gets: layers then make up for the errors of those
            before them (`least_squares.refitted`).
        ridge: with float targets: how strongly weights are held where they are, as a share of the
            Hessian's mean diagonal; 0: as suits the layer, by cross-validation.
        scales: weight scales tried per channel, between 0.6 and 1 times the one that clips nothing, besides
            the one that the graph has; the one with the smallest loss is kept.
        refine: step single integers up or down afterwards as long as that lowers the loss; where scales are
            searched, in turn with the scale that is best for the integers.
        attention: weigh errors of queries, keys and values by what attention makes of them (`attention`).
    """

    damping: Annotated[float, Interval(ge=1e-6, le=1)] = 0.01
    samples: Annotated[int, Ge(1)] = 512
    float_targets: bool = False
    ridge: Annotated[float, Interval(ge=0, le=100)] = 0.0
    scales: Annotated[int, Interval(ge=0, le=256)] = 0
    refine: bool = False
    attention: bool = False

    def round(self, layer: Layer) -> Rounded:
        """Integers, and scales where they were searched."""
        return _rounded(layer, one_by_one, self.damping, self.ridge, self.scales, self.refine)


@dataclass(frozen=True)
class Erq:
    """Error reduction by ridge regression: ERQ (Zhong et al. 2024).

    First the real weights are refitted to make up for the error of the layer's inputs (Aqer), then half of
    them is rounded at a time, and the rest refitted (Wqer).

    Attributes:
        damping: ridge of Wqer, as a share of the Hessian's mean diagonal.
        samples: how many samples the moments are summed over, at most.
        ridge: of Aqer, as for Gptq.
        scales: as for Gptq.
    """

    damping: Annotated[float, Interval(ge=1e-6, le=1)] = 0.01
    samples: Annotated[int, Ge(1)] = 512
    ridge: Annotated[float, Interval(ge=0, le=100)] = 0.0
    scales: Annotated[int, Interval(ge=0, le=256)] = 0
    float_targets: ClassVar[bool] = True
    attention: ClassVar[bool] = False

    def round(self, layer: Layer) -> Rounded:
        """Integers, and scales where they were searched."""
        return _rounded(layer, half_by_half, self.damping, self.ridge, self.scales, refine=False)


RoundingRule = Nearest | Gptq | Erq


def _rounded(
    layer: Layer, how: Callable[[Array], Method], damping: float, ridge: float, scales: int, refine: bool
) -> Rounded:
    """Rounds by a method of `least_squares`, at the best of some scales; the first is the graph's own."""
    weights = layer.weights
    if layer.pull is not None:
        weights = refitted(weights, layer.hessian, layer.pull, ridge or own_ridge(layer))
    hessian = damped(layer.hessian, damping)
    method = how(hessian)

    def one(layer: Layer, weights: Array) -> Rounded:
        best = _best(layer, weights, method, [layer.scale, *_candidates(layer, scales)])
        return _refined(layer, best, weights, hessian, scales > 0) if refine else best

    return one(layer, weights) if layer.coupling is None else _coupled(layer, weights, layer.coupling, damping, one)


def _coupled(
    layer: Layer, weights: Array, coupling: Array, damping: float, one: Callable[[Layer, Array], Rounded]
) -> Rounded:
    """Rounds one channel of each head after the other; channels that are still real make up for those before.

    With C = R R^T of one head and A the second moment, the loss tr(C E A E^T) of errors E is the sum over channels a
    of || (R^T E)_a ||^2 in A, and (R^T E)_a = R_aa (E_a + sum over i > a of R_ia / R_aa E_i): a channel is rounded
    as if its weights were more by that sum, the later ones being done. It is `one_by_one` for channels.
    """
    order = largest_first(coupling)[:, ::-1]
    factor = cholesky(permuted(damped(coupling, damping), order))
    heads, size = order.shape
    channels = order + size * np.arange(heads)[:, None]
    errors = np.zeros((heads, size, weights.shape[2]))
    integers, scale = np.empty_like(weights), layer.scale.copy()
    for a in range(size - 1, -1, -1):
        share = factor[:, a + 1 :, a] / factor[:, a, a, None]
        here = channels[:, a]
        wanted = weights[0, here] + np.einsum("hi,hit->ht", share, errors[:, a + 1 :])
        found = one(layer.part(here), wanted[None])
        integers[:, here], scale[:, here] = found.integers, found.scale
        errors[:, a] = weights[0, here] - found.integers[0] * found.scale[0, :, None]
    return Rounded(integers, scale)


def _best(layer: Layer, weights: Array, method: Method, scales: list[Array]) -> Rounded:
    """Each channel at the scale with the smallest loss.

    The loss of a channel falls and then grows as its scale becomes smaller: a channel is done when that is much more
    than at its best. At 8 bits most are done after two turns. Of few terms the losses are too uneven for that.
    """
    workers = [None] * (THREADS if weights.shape[2] >= MANY else 1)
    found, scale = np.zeros_like(weights), layer.scale.copy()
    least: Array = np.full(scale.shape, np.inf)
    open_ones: Array = np.arange(weights.shape[1])  # channels that are not done
    leaving = (weights.shape[0] == 1 or layer.parted) and weights.shape[2] >= MANY
    for turn in batched(scales, TURN):
        here = open_ones
        zeros = None if layer.zeros is None else layer.zeros[:, here]

        def tried(_: None, one: Array, here: Array = here, zeros: Array | None = zeros) -> tuple[Array, Array, Array]:
            return one[:, here], *method(weights[:, here], one[:, here], layer.limit, zeros)

        for one, integers, apart in ordered(workers, tried, turn):
            error = layer.by_channel(apart)
            wins = error < least[:, here]
            found[:, here] = np.where(wins[..., None], integers, found[:, here])
            scale[:, here] = np.where(wins, one, scale[:, here])
            least[:, here] = np.where(wins, error, least[:, here])
        if leaving:
            open_ones = here[(error <= LOST * least[:, here])[0]]
        if not len(open_ones):
            break
    return Rounded(found, scale)


def own_ridge(layer: Layer) -> float:
    """How strongly the layer's weights are held where they are, by cross-validation where there are folds."""
    if len(layer.rows) > 1:
        return best_ridge_of_rows(layer.rows, RIDGES)
    return best_ridge(layer.folds, RIDGES) if len(layer.folds) > 1 else RIDGES[0]


def _refined(layer: Layer, start: Rounded, weights: Array, hessian: Array, with_scales: bool) -> Rounded:
    """Turns of single steps and, where scales are searched, of the best scale for the integers: neither can lose."""
    integers, scale = start.integers.copy(), start.scale
    workers = [None] * (THREADS if weights.shape[2] >= MANY else 1)
    aim, moved = ordered(workers, lambda _, values: np.asarray(values @ hessian), (weights, integers))
    stepped(weights, aim, scale, integers, moved, hessian, layer.limit, layer.zeros)
    if layer.bounds is None or not with_scales:
        return Rounded(integers, scale)
    for _ in range(POLISHES):
        scale = np.clip(fitted_scale(integers, aim, moved, scale, layer.by_channel), *layer.bounds)
        stepped(weights, aim, scale, integers, moved, hessian, layer.limit, layer.zeros)
    return Rounded(integers, scale)


def _candidates(layer: Layer, count: int) -> list[Array]:
    """Scales to try besides the graph's own, from the widest on."""
    if layer.bounds is None:
        return []
    widest = np.abs(layer.weights).max(axis=2) / layer.limit
    if layer.parted:
        widest = np.broadcast_to(widest.max(axis=0), widest.shape)
    return [np.clip(share * widest, *layer.bounds) for share in np.linspace(1.0, NARROWEST, count)]
