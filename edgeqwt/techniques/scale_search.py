"""What searches for better scales than the rules' have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from edgeqwt.graph.graph import Graph
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.scales.scales import Problem, Scales
from edgeqwt.scales.search import search
from edgeqwt.scales.search_problem import problem


class Search(Technique):
    """A method (`scales.search.Method`) that a recipe can name; subclasses have its `propose`."""

    title = "search scales"
    works = Works.SCALES
    role = "a search for scales"
    keeps_clusters = False

    @abstractmethod
    def propose(self, problem: Problem) -> list[Scales]:
        """See search.Method."""

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The best of what is proposed and the scales so far, by the outputs' error on held-out samples."""

        def lowered(found: Scales) -> Graph:
            return context.lowered(replace(state, scales=found.over(state.scales)))

        start = context.assigned(state)
        given = problem(state.graph, state.statistics, state.precision, lowered, start, context.fit)
        found = search(self, given, context.gate.against)
        data = {"candidates": found.candidates, "sqnr_db": {"before": found.before, "after": found.after}}
        kept = bool(found.scales.ranges or found.scales.weights)
        return replace(state, scales=found.scales.over(state.scales)), Account((), data, kept, detail=found)
