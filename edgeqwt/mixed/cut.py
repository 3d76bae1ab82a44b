"""The cheapest way to split nodes into two sides: a minimum cut (Dinic 1970).

Whether ops work at 8 or at 16 bits is such a split: each op has its cost at either width, and neighbours
at different widths cost a copy and what the copy loses. Such pairwise costs are submodular, so that the
minimum cut is the best of all splits (Kolmogorov and Zabih 2004, section 4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import inf

NEGLIGIBLE = 1e-12  # of the largest finite capacity: what rounding leaves of a saturated edge


class Split:
    """Nodes, by any name, with costs of being on the low and on the high side."""

    def __init__(self) -> None:
        self._names: dict[Hashable, int] = {"": 0, None: 1}  # the low and the high side themselves
        self._edges: list[list[int]] = [[], []]
        self._to: list[int] = []
        self._capacity: list[float] = []

    def low(self, node: Hashable, cost: float) -> None:
        """What the node costs on the low side; infinite: it is high."""
        self._edge(self._node(node), 1, cost)

    def high(self, node: Hashable, cost: float) -> None:
        """What the node costs on the high side; infinite: it is low."""
        self._edge(0, self._node(node), cost)

    def apart(self, low: Hashable, high: Hashable, cost: float) -> None:
        """What it costs that the first node is low while the second is high; infinite: it cannot be."""
        self._edge(self._node(low), self._node(high), cost)

    def highs(self) -> set[Hashable]:
        """The nodes on the high side, as few as possible, of a split with the smallest sum of costs."""
        finite = [capacity for capacity in self._capacity if capacity < inf]
        least = NEGLIGIBLE * max(finite, default=0.0)
        capacity = list(self._capacity)
        while (levels := self._levels(capacity, least))[1] >= 0:
            starts = [0] * len(self._edges)
            while self._push(capacity, levels, starts, least) > 0:
                pass
        # What can still reach the high side is on it; all else is as well off on the low one.
        reaching = self._reaching(capacity, least)
        return {name for name, node in self._names.items() if node > 1 and node in reaching}

    def _node(self, name: Hashable) -> int:
        if name not in self._names:
            self._names[name] = len(self._edges)
            self._edges.append([])
        return self._names[name]

    def _edge(self, start: int, end: int, cost: float) -> None:
        for a, b, capacity in ((start, end, cost), (end, start, 0.0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._capacity.append(capacity)

    def _levels(self, capacity: list[float], least: float) -> list[int]:
        levels, todo = [-1] * len(self._edges), deque([0])
        levels[0] = 0
        while todo:
            node = todo.popleft()
            for e in self._edges[node]:
                if capacity[e] > least and levels[self._to[e]] < 0:
                    levels[self._to[e]] = levels[node] + 1
                    todo.append(self._to[e])
        return levels

    def _push(self, capacity: list[float], levels: list[int], starts: list[int], least: float) -> float:
        """Sends as much as it can along one shortest path; 0 where there is none left."""
        path: list[int] = []
        node = 0
        while node != 1:
            edges = self._edges[node]
            while starts[node] < len(edges):
                e = edges[starts[node]]
                if capacity[e] > least and levels[self._to[e]] == levels[node] + 1:
                    break
                starts[node] += 1
            if starts[node] < len(edges):
                path.append(edges[starts[node]])
                node = self._to[path[-1]]
            elif path:
                node = self._to[path.pop() ^ 1]
                starts[node] += 1
            else:
                return 0.0
        flow = min(capacity[e] for e in path)
        for e in path:
            capacity[e] -= flow
            capacity[e ^ 1] += flow
        return flow

    def _reaching(self, capacity: list[float], least: float) -> set[int]:
        found, todo = {1}, [1]
        while todo:
            for e in self._edges[todo.pop()]:
                before = self._to[e]
                if capacity[e ^ 1] > least and before not in found:
                    found.add(before)
                    todo.append(before)
        return found
