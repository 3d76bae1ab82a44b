"""What to do about columns of other magnitude depends on what reads them."""

from __future__ import annotations

import numpy as np

from edgeqwt.calibration.samples import InputSpec, Samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.columns import ColumnWarning, column_warnings
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, NONE, Chain, noise

SIZES = np.array([1.0, 1e5, 3.0, 5e4, 1.0, 1.0])
DENSE = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}


def warned(graph: Graph) -> ColumnWarning | None:
    """What is said of an input x of (1, 6), whose columns have the sizes."""
    t = graph.inputs[0]
    model = ConvertedModel(graph, (Binding(InputSpec("x", (1, 6), "float32"), t),), (), lambda sample: {})
    kept = [{"x": row[None].astype(np.float32)} for row in noise(40, 6) * SIZES]
    return column_warnings(model, Samples("test", lambda: iter(kept), len(kept)), Precision()).get("x")


def test_a_layer_with_a_weight_for_each_column_takes_up_their_scales() -> None:
    chain = Chain()
    found = warned(
        chain.graph(chain.op("FULLY_CONNECTED", chain.input((1, 6)), chain.constant(noise(3, 6)), -1, **DENSE))
    )
    assert found is not None
    assert found.standardize
    assert found.sentence.endswith("try --standardize x, or 16 bits there (--input x=int16)")


def test_columns_that_a_layer_runs_along_are_samples_of_one_signal() -> None:
    """A waveform that begins silent is no vector of quantities in units of their own."""
    chain = Chain()
    x = chain.op("RESHAPE", chain.input((1, 6)), chain.constant([1, 1, 6, 1]), newShape=[1, 1, 6, 1])
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 1, 3, 1)), chain.constant(noise(4)), **CONV)
    assert warned(chain.graph(y)) is None


def test_what_no_layer_reads_has_16_bits_alone() -> None:
    chain = Chain()
    x = chain.input((1, 6))
    found = warned(chain.graph(chain.op("MUL", x, x, **NONE)))
    assert found is not None
    assert not found.standardize
    assert found.sentence.endswith("try 16 bits there (--input x=int16)")
