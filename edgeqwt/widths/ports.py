"""What the inputs and outputs of the file are like, where that is not left to the precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph

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


def with_states(graph: Graph, ports: Mapping[str, Port]) -> dict[str, Port]:
    """Ports by tensor name, of which the two ends of a state have one type: its bytes are fed back as they are.

    Args:
        graph: says which inputs and outputs are states.
        ports: as they are asked for.

    Raises:
        InputError: the two ends are to have unlike types.
    """
    found = dict(ports)
    for ends in graph.state_tensors():
        names = [graph.tensors[t].name for t in ends]
        types = {name: found[name].type for name in names if name in found and found[name].type}
        if len(set(types.values())) > 1:
            one, other = (f"{name!r} {kind}" for name, kind in types.items())
            raise InputError(
                f"input and output are one state and have unlike types: {one}, {other}",
                "Give both the same type, or --state none where the bytes are not fed back.",
            )
        for name in names:
            if types and name not in types:
                found[name] = Port(next(iter(types.values())))
    return found
