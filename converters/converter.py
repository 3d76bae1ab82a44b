"""What a converter is: one way from a source model to a float TFLite graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeqwt.converted import ConvertedModel
from edgeqwt.converters.cache import Cache
from edgeqwt.converters.source import Source
from edgeqwt.converters.tools import Found
from edgeqwt.errors import UnsupportedError


@dataclass(frozen=True)
class Work:
    """Where and how a converter runs.

    Attributes:
        folder: files and logs are left in it.
        onnx2tf_python: interpreter that has onnx2tf, as the user named it for this call.
        progress: receives the name of each step as it begins.
        kept: what one converter leaves for the next ones of the same source, by a name of theirs.
        cache: what converters wrote before; None: they run.
    """

    folder: Path
    onnx2tf_python: str | None = None
    progress: Callable[[str], None] = lambda step: None
    kept: dict[str, Any] = field(default_factory=dict)
    cache: Cache | None = None

    @property
    def torch_log(self) -> Path:
        """What torch says."""
        return self.folder / "torch_export.log"


class NothingElseError(Exception):
    """A converter would be given what the one before it was given: there is nothing to try."""


class NoConverterError(UnsupportedError):
    """What a source does that no converter carries over: there is nothing to try."""


class Converter(Protocol):
    """One way from a source model to a float TFLite graph.

    Nothing that a converter makes is believed: `convert.first_to_pass` holds it against the source. So a
    converter need not be right always, but it must say what it is asked for in the source's own terms: bindings
    of inputs and outputs in their order, source locations, and values to find the first wrong op with.
    """

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    def find(self, work: Work) -> Found:
        """Whether the tool that it calls is there."""
        ...

    def takes(self, source: Source) -> bool:
        """Whether sources of this kind are for it."""
        ...

    def convert(self, source: Source, work: Work) -> ConvertedModel:
        """Converts.

        Raises:
            EdgeqwtError: it cannot; the next converter may.
            NothingElseError: it is not tried.
        """
        ...
