"""Builds that did not end: what their techniques had made, kept on disk for the next build of the same.

Large networks take minutes, and a build may be interrupted, killed, or refused for its quality at last. What its
techniques made until then follows from the prepared graph, the values that its inputs have on the samples, the recipe
and the versions of what computes: where all of these are the same, the next build goes on from there, and makes the
same bytes.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from edgeqwt.calibration.observations import digest
from edgeqwt.extras import versions_of
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.device import device_now
from edgeqwt.user_cache import Entries

if TYPE_CHECKING:
    from edgeqwt.passes.context import Context
    from edgeqwt.passes.technique import Techniques
    from edgeqwt.widths.precision import Precision

EVERY = 30.0  # seconds of work that may be lost: to write what there is takes about one for each 300 MB
PREPARED = "the prepared graph"
Hashes = tuple[tuple[str, ...], ...]  # of the samples that are fitted on, and of those held out
UNREADABLE = (pickle.PickleError, AttributeError, ImportError, EOFError, LookupError, TypeError, ValueError)
"""What reading raises where another version wrote it, and writing where a technique hands on what has no bytes."""


class Unfinished:
    """What one build's techniques have made so far; of one graph and its samples.

    As a context it lasts as long as the build: where that ends well, nothing of it is needed any more; what ends it
    otherwise gets a note.

    Args:
        entries: where it is kept; None: nowhere.
    """

    def __init__(self, entries: Entries | None) -> None:
        self._entries, self._kept = entries, set[str]()
        self._since = time.monotonic()
        self._samples: Hashes | None = None
        self._graph = self._after = ""

    def reached(self, context: Context, techniques: Techniques, precision: Precision) -> Any | None:
        """What `keep` was given last by a build of the same that did not end; None where there was none.

        Args:
            context: of the model, its samples and target.
            techniques: of the build.
            precision: widths to begin with.
        """
        if self._entries is None or self._entries.empty() or context.model.learned is not None:
            return None
        key = self._key(context, techniques, precision)
        with self._entries.read(key) as file:
            if file is None:
                return None
            try:
                samples, after, found = _Reader(file, context.graph).load()
            except UNREADABLE:
                return None
        if samples != self._hashes(context):
            return None
        self._kept.add(key)
        self._after = after
        return found

    def keep(self, context: Context, techniques: Techniques, precision: Precision, found: object, after: str) -> None:
        """Keeps what there is, where the last time is a while ago.

        Args:
            context: as for `reached`.
            techniques: as for `reached`.
            precision: as for `reached`.
            found: what has been made.
            after: the stage that made the last of it.
        """
        if self._entries is None or context.model.learned is not None or time.monotonic() - self._since < EVERY:
            return
        key, samples = self._key(context, techniques, precision), self._hashes(context)
        try:
            self._entries.write(key, lambda file: _Writer(file, context.graph).dump((samples, after, found)))
        except UNREADABLE:
            return
        self._kept.add(key)
        self._since, self._after = time.monotonic(), after

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._after:
            error.add_note(f"The same build, also with --accept, goes on after the stage {self._after!r}.")
        if error is None and self._entries is not None:
            for key in self._kept:
                self._entries.remove(key)

    def _key(self, context: Context, techniques: Techniques, precision: Precision) -> str:
        """What all but the samples comes to, as one hash."""
        self._graph = self._graph or hashlib.sha256(flatbuffer.to_bytes(context.graph)).hexdigest()
        used = versions_of("edgeqwt", "numpy", "ai-edge-litert", "torch")
        where = platform.python_version(), platform.machine(), device_now(), context.target
        own = sorted(context.preserve), sorted(context.ranges.items()), sorted(context.model.deciding.items())
        about = repr((self._graph, used, where, own, techniques, precision))
        return hashlib.sha256(about.encode()).hexdigest()

    def _hashes(self, context: Context) -> Hashes:
        if self._samples is None:
            self._samples = tuple(tuple(map(digest, feeds)) for feeds in (context.fit, context.gate.feeds()))
        return self._samples


NOWHERE = Unfinished(None)


class _Writer(pickle.Pickler):
    """Writes all but the prepared graph, which a later build has."""

    def __init__(self, file: IO[bytes], graph: Graph) -> None:
        super().__init__(file, 5)
        self.graph = graph

    def persistent_id(self, obj: object) -> str | None:
        """See pickle."""
        return PREPARED if obj is self.graph else None


class _Reader(pickle.Unpickler):
    """Reads what `_Writer` wrote: the user's own file, in the user's own folder, whole by its hash."""

    def __init__(self, file: IO[bytes], graph: Graph) -> None:
        super().__init__(file)
        self.graph = graph

    def persistent_load(self, pid: object) -> Graph:
        """See pickle."""
        return self.graph
