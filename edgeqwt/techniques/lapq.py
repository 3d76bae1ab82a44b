"""LAPQ: ranges searched together by the error of the outputs."""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.scales import search_outputs
from edgeqwt.techniques.scale_search import Search


@dataclass(frozen=True)
class Lapq(search_outputs.Lapq, Search):
    __doc__ = search_outputs.Lapq.__doc__
    name = "lapq"
    paper = "LAPQ (Nahshan et al. 2021), algorithm 1"
