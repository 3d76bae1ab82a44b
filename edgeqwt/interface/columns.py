"""What to do about inputs whose columns differ by orders of magnitude, by what reads them.

A layer with a weight for each column takes a scale for each of them into its weights. One that runs along the columns
has the same weights for all: they are samples of one signal, of which quiet ones lose nothing that counts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from edgeqwt.calibration.columns import unlike_columns
from edgeqwt.calibration.samples import Samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.bind import bound, coarse_inputs
from edgeqwt.interface.input_normalization import LAYERS, MOVING, takes_up
from edgeqwt.interface.options import Interface
from edgeqwt.widths.precision import Precision


@dataclass(frozen=True)
class ColumnWarning:
    """An input whose columns one scale does not serve.

    Attributes:
        sentence: which ones, and what to try.
        standardize: whether scales for each column help: the layers that read it take them up.
    """

    sentence: str
    standardize: bool


def column_warnings(model: ConvertedModel, samples: Samples, precision: Precision) -> dict[str, ColumnWarning]:
    """Inputs some of whose columns vary by no more than their 8-bit steps, by name.

    Args:
        model: as the file is to have its inputs.
        samples: validated; the first few are read.
        precision: which inputs have 8 bits.
    """
    tensors, found = {b.spec.name: b.tensor for b in model.inputs}, dict[str, ColumnWarning]()
    for name, sentence in unlike_columns(samples, coarse_inputs(model, precision)).items():
        wide = f"16 bits there (--input {name}=int16)"
        if _standardizable(model, samples, name):
            found[name] = ColumnWarning(f"{sentence}: try --standardize {name}, or {wide}", True)
        elif not _first_readers(model.graph, tensors[name]) & {*LAYERS}:
            found[name] = ColumnWarning(f"{sentence}: try {wide}", False)
    return found


def _standardizable(model: ConvertedModel, samples: Samples, name: str) -> bool:
    with suppress(EdgeqwtError):
        new = bound(model, samples, Interface(standardize=(name,))).model
        changed = next(b for b in new.inputs if b.spec.name == name)
        return takes_up(new, new.graph.tensors[changed.tensor].name)
    return False


def _first_readers(graph: Graph, t: int) -> set[str]:
    """The kinds of the ops that compute with a tensor, which others may move before."""
    moved, kinds = {t}, set[str]()
    for op in graph.ops:
        if moved & {*op.inputs}:
            if op.kind in (*MOVING, "MIRROR_PAD", "PADV2"):
                moved |= {*op.outputs}
            else:
                kinds.add(op.kind)
    return kinds
