"""EasyQuant: scales searched layer by layer by the cosine of outputs."""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.scales import search_layers
from edgeqwt.techniques.scale_search import Search


@dataclass(frozen=True)
class EasyQuant(search_layers.EasyQuant, Search):
    __doc__ = search_layers.EasyQuant.__doc__
    name = "easyquant"
    paper = "EasyQuant (Wu et al. 2020), algorithm 1"
