"""What came out of graphs that ran on the gate's samples, so that the last look does not run them again."""

from __future__ import annotations

from collections.abc import Mapping, Set
from threading import Lock
from weakref import WeakKeyDictionary

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import Values

MOST = 1 << 22  # elements that are kept of a graph, all samples together


class Remembered:
    """Values of tensors by graph and number of the sample, of graphs that are still in use."""

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[Graph, dict[int, Values]] = WeakKeyDictionary()
        self._elements: WeakKeyDictionary[Graph, int] = WeakKeyDictionary()
        self._lock = Lock()

    def put(self, graph: Graph, sample: int, values: Mapping[int, Array]) -> None:
        """Keeps values that a graph gave of a sample, unless they are many; threads may share this."""
        with self._lock:
            held = self._values.setdefault(graph, {}).setdefault(sample, {})
            new = {t: value for t, value in values.items() if t not in held}
            elements = self._elements.get(graph, 0) + sum(value.size for value in new.values())
            if elements <= MOST:
                self._elements[graph] = elements
                held |= new

    def of(self, graph: Graph, sample: int, wanted: Set[int]) -> Values | None:
        """The values of a graph's tensors on a sample; None where not all are known."""
        with self._lock:
            found = self._values.get(graph, {}).get(sample)
            return None if found is None or not wanted <= found.keys() else dict(found)
