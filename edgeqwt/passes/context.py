"""What techniques may ask for, each answer computed once: samples to fit on, statistics, lowered graphs, the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from edgeqwt.calibration.observations import Observations
from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.samples import Samples, split
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensation.channel_constants import constant_ops
from edgeqwt.converted import ConvertedModel
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import runs
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.lowering.lower import assigned, lower
from edgeqwt.passes.gate import Gate, Verdict
from edgeqwt.passes.limits import UNLIMITED, Limits
from edgeqwt.passes.state import State
from edgeqwt.passes.unfinished import NOWHERE, Unfinished
from edgeqwt.prepare.constant_factors import fold_factors
from edgeqwt.prepare.kernel_forms import for_kernels
from edgeqwt.profile import Kernels, TargetProfile, kernels_of
from edgeqwt.progress import Advance, quiet
from edgeqwt.rounding.row_weights import RowWeights, row_weights
from edgeqwt.rounding.structure import KINDS, Structure, structure
from edgeqwt.runtime.overwritten import protected
from edgeqwt.scales.activations import Assignment
from edgeqwt.scales.ranges import PerLayer, RangeRule
from edgeqwt.verify.feeds import feeds
from edgeqwt.widths.precision import Precision

WORK = 1 << 32
"""Multiplications that what is fitted to 8-bit weights is worth, all samples together: a second. ResNet-20 has, on
2000 images, 30.90, 30.94 and 30.91 dB rounded on 384, 128 and 64 samples, and by `fast`, compensated on as many,
30.06, 30.03 and 30.09."""
LEAST = 64  # samples, however large the network
LINES_WORK, LINES = 1 << 37, 32
"""What two numbers per channel are worth at most, but so many samples: of billions of multiplications, 64 samples take
half of a quick build, and give 0.06 dB more than 32 of ResNet-50, 0.13 dB of ViT-S."""
COARSE = 8, 2
"""Times as much, and as many at least, where weights err more than activations do: ResNet-20 at w4a8 rounded on as many
samples has 22.7, 22.4 and 21.8 dB, compensated by `fast` 15.2, 15.1 and 15.0."""
REMEMBERED = 3  # answers of each kind: what techniques ask for again is what came out of the last one or two


@dataclass(frozen=True, eq=False)
class Feeds:
    """Samples to fit on as real values by input tensor, to be read again and again."""

    model: ConvertedModel
    graph: Graph
    samples: Samples

    def __iter__(self) -> Iterator[dict[int, Array]]:
        return feeds(self.model, self.graph, self.samples)

    def head(self, limit: int) -> Feeds:
        """At most the first `limit` of them."""
        return replace(self, samples=self.samples.head(limit))

    def worth(self, multiplications: int, least: int) -> Feeds:
        """The first of them, as many as one run of the graph makes so many multiplications of, `least` at least."""
        return self.head(runs(self.graph, multiplications, least))


@dataclass(frozen=True, eq=False)
class Context:
    """The model that a build is about.

    Attributes:
        model: what the converter handed over.
        graph: the prepared float graph.
        target: what must be able to run the result.
        fit: the samples that techniques may fit on.
        gate: decides by the other ones.
        preserve: what of the weights' structure stays, of `rounding.structure.KINDS`.
        ranges: range rules of single tensors, by name, in place of the one that techniques choose.
        observations: what was observed of the prepared graph before; None: it is observed when it is asked for.
        limits: the time and memory that techniques may take.
        unfinished: keeps what techniques have made, in case that the build does not end.
        advance: shows the progress of the technique that runs.
    """

    model: ConvertedModel
    graph: Graph
    target: TargetProfile
    fit: Feeds
    gate: Gate
    preserve: frozenset[str] = frozenset(KINDS)
    ranges: Mapping[str, RangeRule] = field(default_factory=dict)
    observations: Observations | None = None
    limits: Limits = UNLIMITED
    unfinished: Unfinished = NOWHERE
    advance: Advance = quiet
    _known: dict[str, dict[int, tuple[object, Any]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: ConvertedModel,
        graph: Graph,
        samples: Samples,
        target: TargetProfile,
        preserve: Iterable[str] = KINDS,
        ranges: Mapping[str, RangeRule] = MappingProxyType({}),
    ) -> Context:
        """The context of a build: the only module that parts samples to fit on from those held out.

        Args:
            model: what the converter handed over.
            graph: the prepared float graph, whose inputs are in the model's order.
            samples: calibration samples, validated.
            target: what must be able to run the result.
            preserve: what of the weights' structure stays.
            ranges: range rules of single tensors, by name.
        """
        fit, held_out = split(samples)
        gate = Gate(model, graph, held_out)
        return cls(model, graph, target, Feeds(model, graph, fit), gate, frozenset(preserve), ranges)

    def rule(self, default: RangeRule) -> RangeRule:
        """A range rule, but for the tensors that have one of their own."""
        return PerLayer(default, self.ranges) if self.ranges else default

    def showing(self, advance: Advance) -> Context:
        """The same, with another display of progress."""
        return replace(self, advance=advance)

    def enough(self, state: State, lines: bool = False) -> Feeds:
        """Samples to fit on, as many as what is fitted to a state's weights needs: fewer of what multiplies much.

        Args:
            state: of the model.
            lines: whether two numbers per channel are all that is fitted.
        """
        coarse = state.precision.least_weight_bits < max(8, state.precision.activation_bits)
        times, more = COARSE if coarse else (1, 1)
        found = self.fit.worth(times * WORK, more * LEAST)
        return found.head(runs(self.graph, more * LINES_WORK, more * LINES)) if lines else found

    def structure(self) -> Structure:
        """Zeros and clusters of the prepared graph's weights that are to stay."""
        return self._once("structure", self.graph, lambda: structure(self.graph, self.preserve))

    def observed(self, graph: Graph) -> dict[int, Statistics]:
        """Statistics of a float graph's activations on the samples to fit on."""
        if self.observations is not None and graph is self.graph:
            return dict(self.observations.statistics)

        def observed() -> dict[int, Statistics]:
            shown = replace(self.fit, samples=self.fit.samples.shown(self.advance))
            return observe(graph, shown, deciding=self.model.deciding)[0]

        return self._once("observed", graph, observed)

    def with_observations(self, found: Observations) -> Context:
        """The same, with what was observed before of this graph on these samples.

        Raises:
            InputError: they are of another graph, or of other samples.
        """
        wanted = Observations.of(self.graph, self.fit.samples, self.model.deciding)
        found.require(wanted, self.fit.samples.origin)
        return replace(self, observations=found)

    @property
    def kernels(self) -> Kernels:
        """What the target runs the model with."""
        return kernels_of(self.target, self.model.locations)

    def lowered(self, state: State) -> Graph:
        """The integer graph of a state, weights rounded to nearest, no activation of which LiteRT overwrites.

        Whatever the target: LiteRT judges every file.
        """

        def lowered() -> Graph:
            found = lower(state.graph, state.statistics, state.ranges, state.precision, self.kernels, state.scales)
            return protected(found)

        return self._once("lowered", state, lowered)

    def keep(self, before: State, after: State, threshold: float, at: tuple[int, ...] = ()) -> Verdict:
        """Whether a state is better than another one when both are lowered as they are; see `Gate.keep`."""
        return self.gate.keep(self.lowered(before), self.lowered(after), threshold, at)

    def with_integer(self, state: State) -> State:
        """The state with an integer graph."""
        return replace(state, integer=self.lowered(state)) if state.integer is None else state

    def assigned(self, state: State) -> Assignment:
        """The scales and widths with which a state is lowered."""
        return assigned(state.graph, state.statistics, state.ranges, state.precision, self.kernels, state.scales)

    def for_widths(self, precision: Precision) -> tuple[Graph, Precision]:
        """The prepared graph, with ops written otherwise that no kernels have at the widths that they are to have.

        The precision has widths for what they became, too; the graph is the same for the same such ops.
        """
        known = self._once("for widths", self.graph, dict[tuple[str, ...], Graph])
        graph, widths = for_kernels(self.graph, precision, self.kernels)
        if graph is not self.graph and not self.structure().clusters:  # those have scales of the weights as they were
            graph = fold_factors(graph)[0]  # HARD_SWISH's sixth is a factor of the weights that read it
        return known.setdefault(tuple(t.name for t in graph.tensors), graph), widths

    def row_weights(self, graph: Graph) -> RowWeights | None:
        """How much the outputs depend on each row that a dense layer of a float graph meets; see `row_weights`."""

        def found() -> RowWeights | None:
            scaled = [graph.ops[i].outputs[0] for i in constant_ops(graph)]
            return row_weights(graph, decision_tensors(graph), scaled)

        return self._once("row weights", graph, found)

    def _once[T](self, what: str, key: object, compute: Callable[[], T]) -> T:
        known = self._known.setdefault(what, {})
        if id(key) not in known:
            if len(known) >= REMEMBERED:
                known.pop(next(iter(known)))
            known[id(key)] = key, compute()  # the key stays, so that no other object has its id
        found: T = known[id(key)][1]
        return found
