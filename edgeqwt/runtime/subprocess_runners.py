"""Runners in other processes.

TFLite Micro keeps Python's interpreter lock while it runs, so threads do not make it faster, and some of its checks end
the process. Other processes use all cores, and their end is an error like any other. One process (`Host`) holds many
graphs, which are run one after the other.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from edgeqwt.extras import need
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.child import Child, EndedError, Limits
from edgeqwt.runtime.interpreters import FILES, LiteRT, Runner, Values, check_inputs, computed_shapes, filled, loaded

SECONDS = 600.0
"""Of one inference: the slowest that a build meets, reference kernels on a large network, take a tenth of it."""
_KEYS = itertools.count()
LEAST = 2 << 30
"""Bytes that a process may use for any graph: what libraries reserve when they start threads is much of it."""


def _need(kind: str) -> None:
    if kind == "tflm":
        need("tflite_micro")


def allowed(graph: Graph) -> Limits:
    """What running a graph may use: all tensors four times over, in 8 bytes an element, and the libraries' own."""
    sizes = [t.size for part in (graph, *graph.others) for t in part.tensors]
    return Limits(LEAST + 32 * sum(sizes), SECONDS)


_HOSTS: weakref.WeakSet[Host] = weakref.WeakSet()
_OF_PARENTS: list[Child] = []
"""Children of the process that this one is a copy of, kept so that nothing here ends them."""


class Host:
    """One process for many runners, which is started again when it has ended.

    Args:
        what: runs there, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what, self.lock = what, threading.RLock()
        self.child: Child | None = None
        self.guests: set[int] = set()  # keys of the runners whose graphs the process has met
        self.kinds: set[str] = set()  # that are known to be installed
        self.unused: list[int] = []  # keys of runners that nobody has any more
        _HOSTS.add(self)

    def left_to_parent(self) -> None:
        """Forgets the process, in a copy of the one that started it: two that read its answers would mix them."""
        self.lock = threading.RLock()  # another thread, which a copy does not have, may hold the old one
        if self.child is not None:
            self.child.end.detach()
            _OF_PARENTS.append(self.child)
            self.child = None

    def alive(self) -> Child:
        """The process."""
        if self.child is None or not self.child.end.alive:
            self.child, self.guests = Child(self.what), set()
        return self.child

    def runner(self, kind: str, graph: Graph, taps: Sequence[int] = ()) -> Hosted:
        """A runner in that process.

        Raises:
            InterpreterError: the interpreter refuses the model, or the process ended over it.
            MissingPackageError: it is not installed.
        """
        if kind not in self.kinds:  # to look for a package takes a fifth of a second
            _need(kind)
            self.kinds.add(kind)
        return Hosted(self, kind, graph, taps)


def _leave_to_parent() -> None:
    for host in _HOSTS:
        host.left_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class Hosted:
    """A runner in a process that others use as well; it loads its graph again where that was started again."""

    def __init__(self, host: Host, kind: str, graph: Graph, taps: Sequence[int]) -> None:
        self.host, self.graph = host, graph
        self.arguments = (kind, FILES.of(graph, graph.outputs), tuple(taps))
        self.limits, self.key = allowed(graph), next(_KEYS)
        self.loaded: Child | None = None
        weakref.finalize(self, host.unused.append, self.key).atexit = False
        with host.lock:
            self._tried(self._load)

    def _load(self) -> Child:
        child, unused = self.host.alive(), self.host.unused
        if self.loaded is not child:
            self.host.guests.add(self.key)
            forgotten = [unused.pop() for _ in range(len(unused))]
            child.call(_load, self.key, *self.arguments, forgotten, doing="load", limits=self.limits)
            self.loaded = child
        return child

    def _tried[T](self, call: Callable[[], T]) -> T:
        """Calls in the process; where that ends, in a new one, if the old one had run other graphs.

        What those wrote where they must not can end it later: only a process of its own shows what a graph does. What
        takes too long does so again.
        """
        child, others = self.host.alive(), self.host.guests - {self.key}
        try:
            return call()
        except EndedError:
            if not others or child.late.is_set():
                raise
        return call()

    def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        with self.host.lock:
            return self._tried(lambda: self._load().call(function, self.key, *arguments, limits=self.limits))

    def run(self, inputs: Mapping[int, Array]) -> Values:
        """See Runner."""
        check_inputs(self.graph, inputs)
        values: Values = self._call(_run, dict(inputs))
        return values

    def exercise(self, run: bool, inputs: Mapping[int, Array] | None = None) -> dict[int, tuple[int, ...]]:
        """The shapes that LiteRT gives the graph's tensors, those that it knows.

        Args:
            run: run it first; LiteRT knows some shapes only then.
            inputs: one sample; None: zeros.
        """
        found: dict[int, tuple[int, ...]] = self._call(_exercise, run, None if inputs is None else dict(inputs))
        return found


@cache
def litert_host(number: int = 0) -> Host:
    """One of the processes for LiteRT's interpreters: as many of them run at a time as there are numbers in use."""
    return Host("LiteRT")


@cache
def micro_host() -> Host:
    """The process for TFLite Micro's interpreters, of builds that follow each other as well."""
    return Host("TFLite Micro")


# -- the other side ------------------------------------------------------------------

_RUNNERS: dict[int, Runner] = {}


def _load(key: int, kind: str, data: bytes, taps: tuple[int, ...], unused: Sequence[int] = ()) -> None:
    for old in unused:
        _RUNNERS.pop(old, None)
    _RUNNERS[key] = loaded(kind, flatbuffer.from_own_bytes(data), taps)


def _run(key: int, inputs: Mapping[int, Array]) -> Values:
    return _RUNNERS[key].run(inputs)


def _exercise(key: int, run: bool, sample: Mapping[int, Array] | None = None) -> dict[int, tuple[int, ...]]:
    runner = _RUNNERS[key]
    assert isinstance(runner, LiteRT)
    if run:
        runner.run(filled(runner.graph) if sample is None else sample)
    return computed_shapes(runner)
