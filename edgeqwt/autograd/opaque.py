"""Ops without a kernel in torch: LiteRT runs them, and gradients stop there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from edgeqwt.autograd.call import Call
from edgeqwt.graph.graph import DTYPES, Array
from edgeqwt.runtime.device import device_now
from edgeqwt.runtime.runners import xnnpack

Run = Callable[[Sequence[Array]], tuple[Array, ...]]


def opaque(call: Call) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The op's outputs, on which nothing before it is taken to depend."""
    graph, op = call.graph, call.op
    read = list(dict.fromkeys(t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant))
    alone = graph.slice([graph.ops.index(op)], read, op.outputs)
    runner = xnnpack(alone)
    dtypes = [DTYPES[graph.tensors[t].dtype] for t in read]

    def run(values: Sequence[Array]) -> tuple[Array, ...]:
        given = {t: np.array(v, dtype, order="C") for t, v, dtype in zip(alone.inputs, values, dtypes, strict=True)}
        found = runner.run(given)
        return tuple(found[t] for t in alone.outputs)

    given = [call[op.inputs.index(t)] for t in read]
    results: Any = _Opaque.apply(run, *given)  # type: ignore[no-untyped-call]
    double = next((v.dtype for v in given if v.is_floating_point()), torch.float32)
    made = tuple(v.to(double) if v.is_floating_point() else v for v in results)
    return made[0] if len(made) == 1 else made


class _Opaque(torch.autograd.Function):
    """See `opaque`."""

    @staticmethod
    def forward(run: Run, *values: Any) -> Any:
        found = run([v.detach().cpu().numpy() for v in values])
        return tuple(torch.from_numpy(np.array(v)).to(device_now()) for v in found)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.count = len(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None,) * ctx.count

    @staticmethod
    def vmap(info: Any, in_dims: Any, run: Run, *values: Any) -> Any:
        rows = [
            [v if dim is None else v.select(dim, i) for v, dim in zip(values, in_dims[1:], strict=True)]
            for i in range(info.batch_size)
        ]
        found = [_Opaque.apply(run, *row) for row in rows]  # type: ignore[no-untyped-call]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0,) * len(found[0])
