"""Whether inputs have the size that a network was trained with, as its first layer tells.

A layer's bias, with batch normalization folded in, is about as large as the outputs' standard deviation in what the
network was trained on. Pixels of 0 to 255 where it was trained on normalized ones make the outputs a hundred times
larger than the bias, and normalized ones where it was trained on pixels let the bias alone decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.runtime.runners import xnnpack

SAMPLES = 8
TOO_LARGE, TOO_SMALL = 20.0, 0.02  # outputs' standard deviation over the bias; usual are 0.3 to 3


def scale_warnings(graph: Graph, samples: Iterable[Mapping[int, Array]]) -> tuple[str, ...]:
    """A sentence where the inputs seem to be scaled otherwise than in training.

    Args:
        graph: float.
        samples: its inputs by tensor index; the first few are read.
    """
    linear = [op for op in graph.ops if is_linear(op)]
    reals = [t for t in graph.inputs if graph.tensors[t].is_float]
    if not linear or len(reals) != 1 or len(graph.inputs) != 1:
        return ()
    op, bias = linear[0], slots(linear[0]).bias
    data = graph.tensors[bias].data if bias >= 0 else None
    if data is None or not data.any():
        return ()
    runner = xnnpack(graph, [op.outputs[0]])
    few = [*islice(samples, SAMPLES)]
    values = np.stack([sample[reals[0]] for sample in few])
    outputs = np.stack([runner.run(sample)[op.outputs[0]] for sample in few]).astype(np.float64)
    ratio = float(outputs.reshape(-1, outputs.shape[-1]).std(axis=0).mean() / np.sqrt(np.square(data).mean()))
    name, pixels = graph.tensors[reals[0]].name, bool((values == np.round(values)).all() and values.min() >= 0)
    if ratio > TOO_LARGE and pixels and 64 < values.max() <= 255:
        return (
            f"input {name!r} holds integers of 0 to {values.max():.0f}, and the first layer's outputs are {ratio:.0f} "
            "times its bias: the model seems to be trained on normalized values",
        )
    if ratio < TOO_SMALL and np.abs(values).max() <= 8:
        return (
            f"input {name!r} holds values of {values.min():.2g} to {values.max():.2g}, beside which the first layer's "
            f"bias is {1 / max(ratio, 1e-9):.0f} times as large: the model seems to be trained on larger values, such "
            "as 0 to 255",
        )
    return ()
