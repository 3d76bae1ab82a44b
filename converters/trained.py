"""Sources that were trained with quantization: whether what is understood of their rounding is all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import Binding, LearnedRanges
from edgeqwt.errors import ParityError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.fake_quant import inserted
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.metrics import Sums, compare

SAMPLES = 8
ROUNDS_ALIKE = 25.0  # dB: values on the edge between two of 256 steps fall to either side, and leave some 30 to 60 dB

Bindings = tuple[Binding, ...]


def check_rounding(
    what: str,
    run: Callable[[Sample], Mapping[str, Array]],
    graph: Graph,
    bindings: tuple[Bindings, Bindings],
    learned: LearnedRanges,
    samples: Iterable[Sample],
) -> str:
    """Compares the network that rounds to the learned ranges with its source, and says how close it comes.

    Args:
        what: how messages name the source.
        run: runs the source.
        graph: without its rounding.
        bindings: of the source's inputs and outputs.
        learned: its ranges.
        samples: a few are enough.

    Returns:
        A sentence for the report.

    Raises:
        ParityError: not close: the source rounds in a way that is not understood.
    """
    inputs, outputs = bindings
    rounding, total = inserted(graph, learned), Sums()
    runner = xnnpack(rounding)
    ins = dict(zip(graph.inputs, rounding.inputs, strict=True))
    outs = dict(zip(graph.outputs, rounding.outputs, strict=True))
    for sample in samples:
        found = runner.run({ins[b.tensor]: b.to_graph(np.asarray(sample[b.spec.name]), graph) for b in inputs})
        wanted = run(sample)
        for b in outputs:
            total = total.plus(compare(wanted[b.spec.name], b.to_source(found[outs[b.tensor]])))
    sqnr = total.result().sqnr_db
    if sqnr < ROUNDS_ALIKE:
        raise ParityError(
            f"{what} rounds its activations in a way that is not understood: with its ranges the outputs are "
            f"{sqnr:.1f} dB from the source's",
            "Export the model before quantization-aware training was applied to it, or its full-integer file.",
        )
    close = "is what the source does" if math.isinf(sqnr) else f"comes within {sqnr:.1f} dB of the source"
    return (
        f"trained with quantization: the learned ranges of {len(learned.activations)} activations and the integers of "
        f"the weights are kept; rounding to them {close}"
    )
