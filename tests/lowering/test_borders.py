"""Float inputs and outputs for integer graphs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.lowering.borders import with_borders
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.precision import parse
from tests.compensation.nets import made, plain_net


@pytest.mark.parametrize("runtime", RUNNERS)
@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_float_borders_change_nothing_inside(precision: str, runtime: str) -> None:
    case = made(plain_net(), count=4, precision=parse(precision))
    integer, bordered = case.integer, with_borders(case.integer, {}, float_io=True)
    names = [[g.tensors[t].name for t in (*g.inputs, *g.outputs)] for g in (integer, bordered)]
    assert names[0] == names[1]
    assert {bordered.tensors[t].dtype for t in (*bordered.inputs, *bordered.outputs)} == {"float32"}
    inner, outer = RUNNERS[runtime](integer), RUNNERS[runtime](bordered)
    for sample in case.samples:
        (values,) = sample.values()
        fed = {integer.inputs[0]: values}
        (output,) = integer.outputs
        expected = to_real(integer, output, inner.run(graph_feed(integer, fed))[output])
        np.testing.assert_array_equal(outer.run({bordered.inputs[0]: values})[bordered.outputs[0]], expected)
