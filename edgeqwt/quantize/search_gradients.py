"""Gradients that tell the Hessian-guided search which errors of a layer's output count."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.quantize.scales import Gradients, Sample

DRAWS = 2
FLOOR = 0.01  # share of the mean weight that every row has besides: another sample may need it


def output_gradients(graph: Graph, outputs: Sequence[int]) -> Gradients | None:
    """The root mean square gradient of the outputs at each linear op's output, for one sample at a time.

    Its square is the diagonal of the Gauss-Newton Hessian of the outputs' squared error, estimated with random
    signs as in `autograd.influence`: E[(d(v . y)/dx)^2] = sum_j (dy_j/dx)^2 for v of independent +-1
    (Hutchinson 1990). Here zeros behind a RELU count too: a layer may make something else of them.

    Args:
        graph: float.
        outputs: tensors whose squared errors count.

    Returns:
        None where torch is missing, or a kernel of some op in torch.
    """
    try:
        import torch

        from edgeqwt.autograd.evaluate import Program, as_tensor
        from edgeqwt.autograd.influence import one_thread
        from edgeqwt.autograd.kernels import missing
    except ImportError:
        return None
    if missing(graph):
        return None
    program = Program(graph, outputs)
    watched = {slots(op).output for op in graph.ops if RULES[op.kind].linear}

    def gradients(sample: Sample) -> Mapping[int, Array]:
        seen: dict[int, torch.Tensor] = {}

        def watch(t: int, value: torch.Tensor) -> torch.Tensor:
            if t in watched:
                seen[t] = value if value.requires_grad else value.requires_grad_()
            return value

        total = {t: np.zeros(graph.tensors[t].shape) for t in watched}
        generator = torch.Generator().manual_seed(_seed(sample))
        with one_thread():
            found = program.one({t: as_tensor(sample[t]) for t in program.given}, hook=watch)
            for _ in range(DRAWS if seen else 0):
                signed = [v * (2.0 * torch.randint(0, 2, v.shape, generator=generator) - 1) for v in found.values()]
                sums = torch.stack([v.sum() for v in signed]).sum()
                slopes: Sequence[torch.Tensor | None] = torch.autograd.grad(
                    sums, list(seen.values()), retain_graph=True, allow_unused=True
                )
                for t, slope in zip(seen, slopes, strict=True):
                    total[t] += 0.0 if slope is None else slope.double().square().numpy()
        return {t: np.sqrt(square / DRAWS) for t, square in total.items()}

    return gradients


def row_gradients(graph: Graph, outputs: Sequence[int]) -> Gradients | None:
    """As `output_gradients`, where a dense layer meets several rows at a time; None elsewhere.

    Such rows are tokens, of which most may be padding, alike in all samples and felt by nobody. The positions of a
    convolution's map are much alike.
    """
    rows = [graph.tensors[op.outputs[0]].shape[:-1] for op in graph.ops if op.kind == "FULLY_CONNECTED"]
    return output_gradients(graph, outputs) if outputs and any(prod(shape) > 1 for shape in rows) else None


def row_weights(slopes: Array) -> Array:
    """How much each row of a layer's output counts: the mean square of the gradients at it, float64, shape (rows,)."""
    squares = np.square(slopes.reshape(-1, slopes.shape[-1])).mean(axis=1)
    return np.asarray(squares + FLOOR * squares.mean())


def _seed(sample: Sample) -> int:
    """Of a sample's signs: the same whenever it is looked at, another for every sample."""
    return zlib.crc32(b"".join(np.ascontiguousarray(sample[t]).tobytes() for t in sorted(sample)))
