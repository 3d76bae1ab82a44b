"""Gradients that tell the Hessian-guided search which errors of a layer's output count."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.runtime.threads import torch_threads
from edgeqwt.scales.scales import Gradients, Sample

DRAWS = 2


def output_gradients(graph: Graph, outputs: Sequence[int], others: Sequence[int] = ()) -> Gradients | None:
    """The root mean square gradient of the outputs at each linear op's output, for one sample at a time.

    Its square is the diagonal of the Gauss-Newton Hessian of the outputs' squared error, estimated with random
    signs as in `autograd.output_sensitivity`: E[(d(v . y)/dx)^2] = sum_j (dy_j/dx)^2 for v of independent +-1
    (Hutchinson 1990). Here zeros behind a RELU count too: a layer may make something else of them.

    Args:
        graph: float.
        outputs: tensors whose squared errors count.
        others: tensors besides the linear ops' outputs.

    Returns:
        None where torch is missing.
    """
    try:
        import torch

        from edgeqwt.autograd.evaluate import Program
        from edgeqwt.autograd.squared_gradients import squared_gradients
    except ImportError:
        return None
    program = Program(graph, outputs)
    watched = {*others, *(slots(op).output for op in graph.ops if is_linear(op))}

    def gradients(sample: Sample) -> Mapping[int, Array]:
        generator = torch.Generator().manual_seed(_seed(sample))
        with torch_threads(1):
            _, squares = squared_gradients(program, sample, DRAWS, generator, watched)
        return {t: np.sqrt(squares[t]) if t in squares else np.zeros(graph.tensors[t].shape) for t in watched}

    return gradients


def _seed(sample: Sample) -> int:
    """Of a sample's signs: the same whenever it is looked at, another for every sample."""
    return zlib.crc32(b"".join(np.ascontiguousarray(sample[t]).tobytes() for t in sorted(sample)))
