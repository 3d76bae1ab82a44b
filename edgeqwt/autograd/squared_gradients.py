"""Output sensitivity of one sample: squared gradients of the outputs at each activation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

import torch

from edgeqwt.autograd.evaluate import Program, as_array, as_tensor
from edgeqwt.graph.graph import Array


def squared_gradients(
    program: Program,
    sample: Mapping[int, Array],
    draws: int,
    generator: torch.Generator,
    watched: Set[int] | None = None,
) -> tuple[dict[int, Array], dict[int, Array]]:
    """One sample's activations, and the mean squared gradients of the program's outputs at them.

    Gradients are estimated with random signs, as in `autograd.output_sensitivity`; zeros count as any other value.

    Args:
        program: its wanted tensors are the outputs.
        sample: graph inputs by tensor index.
        draws: random sign vectors.
        generator: of the signs.
        watched: tensors to look at; all real-valued ones without it.

    Returns:
        Values, and squares, by tensor index; of tensors that the program does not compute, nothing.
    """
    seen, drawn = gradients(program, sample, draws, generator, watched)
    total = {t: torch.zeros(value.shape, device=value.device) for t, value in seen.items()}
    for found in drawn:
        for t in [*found]:
            gradient = found.pop(t)
            total[t].addcmul_(gradient, gradient, value=1 / draws)
    return {t: as_array(v) for t, v in seen.items()}, {t: as_array(v) for t, v in total.items()}


def generators(program: Program, draws: int, seed: int, size: int = 1) -> Iterator[torch.Generator]:
    """A generator for each chunk of so many samples, which draws what one for all would: threads change no sign."""
    shared = torch.Generator().manual_seed(seed)
    shapes = [program.graph.tensors[t].shape for t in program.wanted]
    while True:
        own = torch.Generator()
        own.set_state(shared.get_state())
        yield own
        for shape in shapes * draws:
            torch.randint(0, 2, (size, *shape), generator=shared)


def gradients(
    program: Program,
    sample: Mapping[int, Array],
    draws: int,
    generator: torch.Generator,
    watched: Set[int] | None = None,
) -> tuple[dict[int, torch.Tensor], Iterator[dict[int, torch.Tensor]]]:
    """One sample's activations, and for each draw of signs v the gradient of v . y at those that have one.

    Arguments are those of `squared_gradients`.
    """
    seen: dict[int, torch.Tensor] = {}

    def watch(t: int, value: torch.Tensor) -> torch.Tensor:
        if value.is_floating_point() if watched is None else t in watched:
            seen[t] = value if value.requires_grad else value.requires_grad_()
        return value

    results = program.one({t: watch(t, as_tensor(sample[t])) for t in program.given}, hook=watch)
    return seen, slopes(results.values(), seen, draws, generator)


def slopes(
    outputs: Iterable[torch.Tensor], at: Mapping[int, torch.Tensor], draws: int, generator: torch.Generator
) -> Iterator[dict[int, torch.Tensor]]:
    """For each draw of signs v, the gradient of v . y at those tensors that outputs y depend on."""
    reached = [v for v in outputs if v.requires_grad]  # comparisons and positions have no slopes
    for k in range(draws if reached else 0):
        signs = [torch.randint(0, 2, v.shape, generator=generator).to(v.device) for v in reached]
        signed = [v * (2.0 * sign - 1) for v, sign in zip(reached, signs, strict=True)]
        sums = torch.stack([v.sum() for v in signed]).sum()
        found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            sums, list(at.values()), retain_graph=k + 1 < draws, allow_unused=True
        )
        # None behind an op that stops gradients. The dictionary alone holds them: its reader may let go of each.
        gradients = {t: gradient for t, gradient in zip(at, found, strict=True) if gradient is not None}
        del found
        yield gradients
