"""What the inputs and outputs of the file are like, where that is not left to the precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

BITS: Mapping[str, int] = MappingProxyType({"uint8": 8, "int8": 8, "int16": 16, "float": 0})
"""Element types of a file's inputs and outputs, and the width of the integers that they are, if they are any."""


@dataclass(frozen=True)
class Port:
    """An input or output of the file.

    Attributes:
        type: a key of `BITS`; empty: as the precision says.
        span: real values of the lowest and the highest integer; None: a range rule chooses them.
    """

    type: str = ""
    span: tuple[float, float] | None = None

    def bits(self, otherwise: int) -> int:
        """The width of the integers inside; `otherwise` where the type does not say."""
        return BITS.get(self.type, 0) or otherwise
