"""Output sensitivity: how much an error of each activation changes the outputs, as mean squared gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import batched

import torch

from edgeqwt.autograd.evaluate import Program, Tensors, as_array, as_tensor
from edgeqwt.autograd.halves import Halves
from edgeqwt.autograd.memory import BATCH, ELEMENTS
from edgeqwt.autograd.squared_gradients import generators, gradients, slopes
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.device import device_now, gradient_threads
from edgeqwt.runtime.parallel import chunk_size, ordered
from edgeqwt.runtime.threads import torch_threads

LEAST = 16  # samples, however large the network


def output_sensitivity(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    outputs: Sequence[int],
    draws: int = 2,
    seed: int = 0,
    by_channel: bool = False,
) -> dict[int, Array]:
    """Mean over samples of the squared gradient of the outputs with respect to every element of every activation.

    For an error e at one element, independent of all else, the outputs' expected squared error is
    e^2 times this: the diagonal of the Gauss-Newton Hessian of their squared error. It is estimated
    with random signs: E[(d(v . y)/dx)^2] = sum_j (dy_j/dx)^2 for v of independent +-1 (Hutchinson 1990).

    Where an activation is exactly zero, as behind a RELU, it counts as 0: zero is always exact.

    Args:
        graph: float; where an op has no kernel, gradients stop (`autograd.kernels.stops`).
        samples: graph inputs by tensor index.
        outputs: tensors whose squared errors count.
        draws: random sign vectors per sample.
        seed: of the signs.
        by_channel: whether sums over positions are all that is wanted: of samples only as many are then taken as
            these need (`halves`).

    Returns:
        float64 by tensor index (the inputs and whatever leads to the outputs), of the tensor's shape.
    """
    program = Program(graph, outputs)
    computed = (t for i in program.ops for t in graph.ops[i].outputs)
    watched = [t for t in (*program.given, *computed) if graph.tensors[t].is_float]
    shapes = {t: graph.tensors[t].shape for t in watched}

    def summed(_: None, drawn: tuple[Sequence[Mapping[int, Array]], torch.Generator]) -> tuple[int, Tensors]:
        chunk, generator = drawn
        return len(chunk), _squares(program, shapes, chunk, draws, generator)

    total = {t: torch.zeros(shape, dtype=torch.float64, device=device_now()) for t, shape in shapes.items()}
    size, count = chunk_size(sum(value.numel() for value in total.values()), BATCH, ELEMENTS), 0
    halves = Halves(graph, LEAST)
    with torch_threads(1):
        chunks = zip(batched(samples, size), generators(program, draws, seed, size), strict=False)
        for number, found in ordered(gradient_threads(), summed, chunks, window=1):
            for t, square in found.items():
                total[t] += square
            count += number
            if by_channel and halves.agree({t: _channels(square) for t, square in found.items()}, number):
                break
    return {t: as_array(value) / (draws * max(count, 1)) for t, value in total.items()}


def _channels(square: torch.Tensor) -> Array:
    """Sums over positions, channels last."""
    return as_array(square.reshape(-1, square.shape[-1] if square.ndim else 1).sum(dim=0))


def _squares(
    program: Program,
    shapes: Mapping[int, tuple[int, ...]],
    chunk: Sequence[Mapping[int, Array]],
    draws: int,
    generator: torch.Generator,
) -> Tensors:
    """Squared gradients at activations of these shapes, summed over some samples and draws."""
    total = Tensors()
    if len(chunk) == 1:  # of a batch of one, convolutions would lose how it lies in memory, and take twice
        seen, drawn = gradients(program, chunk[0], draws, generator, shapes.keys())
    else:
        seen, drawn = _of_batch(program, shapes, chunk, draws, generator)
    for found in drawn:
        for t in [*found]:
            # Times signs, as choosing by a mask takes ten times as long.
            square = (found.pop(t) * seen[t].detach().sign()).square_()
            square = square if len(chunk) == 1 else square.sum(dim=0)
            total[t] = total[t].add_(square) if t in total else square
    return total


def _of_batch(
    program: Program,
    shapes: Mapping[int, tuple[int, ...]],
    chunk: Sequence[Mapping[int, Array]],
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensors, Iterator[Tensors]]:
    """As `squared_gradients.gradients`, of several samples stacked."""
    values = {t: torch.stack([as_tensor(sample[t]) for sample in chunk]) for t in program.given}
    zeros = {t: torch.zeros((len(chunk), *shape), device=device_now()) for t, shape in shapes.items()}
    shifts = {t: zero.requires_grad_() for t, zero in zeros.items()}
    # Samples do not meet, so that the gradient of their sum has each one's by itself. torch.func's own
    # gradients, and grad_outputs of torch.autograd, would import a compiler or SymPy, for seconds.
    found, seen = torch.func.vmap(partial(_shifted, program))(values, shifts)
    return seen, slopes([found[t] for t in program.wanted], shifts, draws, generator)


def _shifted(program: Program, values: Tensors, shifts: Tensors) -> tuple[Tensors, Tensors]:
    """One sample's outputs where activations are shifted, and its activations."""
    seen: Tensors = {}

    def shift(t: int, value: torch.Tensor) -> torch.Tensor:
        if t in shifts:
            seen[t] = value
            return value + shifts[t]
        return value

    return program.one({t: shift(t, v) for t, v in values.items()}, hook=shift), seen
