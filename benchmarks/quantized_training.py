"""A small decoder trained with one part rounded: weights, activations, gradients or the optimizer's moments.

What Chitsaz et al. 2024 ("Exploring Quantization for Efficient Pre-Training of Transformer Language Models") ask of a
large model, of a decoder that trains in seconds. Rounding is simulated in floats: symmetric steps up to the largest
absolute value, from 0 for second moments, which have no sign. Gradients pass rounded weights and activations unchanged.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import language
import torch
from common import ROOT, show
from models.decoder import Decoder
from torch import Tensor, nn
from torch.nn import functional

MEASURED = ROOT / "docs" / "quantized_training.json"
PARTS = ("weights", "activations", "gradients", "first moments", "second moments")
BITS, SEEDS = (8, 4), (0, 1, 2)
MOMENTS = {"first moments": "exp_avg", "second moments": "exp_avg_sq"}
"""Names of AdamW's states."""
TINY = 1e-30

Rounds = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One training: what was rounded (empty: nothing), its bits, one scale per row or in all, nats a byte, seconds."""

    part: str
    bits: int
    rows: bool
    loss: float
    seconds: float
    seed: int = 0


class Linear(nn.Module):
    """A linear layer whose weights, inputs or outputs' gradient are rounded, as both passes read them."""

    def __init__(self, layer: nn.Linear, part: str, rounds: Rounds) -> None:
        super().__init__()
        self.weight, self.bias, self.part, self.rounds = layer.weight, layer.bias, part, rounds

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        weight = straight(self.weight, self.rounds) if self.part == "weights" else self.weight
        x = straight(x, self.rounds) if self.part == "activations" else x
        found = functional.linear(x, weight, self.bias)
        if self.part == "gradients" and found.requires_grad:
            found.register_hook(self.rounds)
        return found


def main() -> None:
    """Trains once for each row, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--write", action="store_true", help=f"write {MEASURED.name}, then run literature_page.py")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measured(asked.steps, asked.parts))
    if asked.write:
        parameters = sum(p.numel() for p in network().parameters())
        kept = [{**asdict(row), "loss": row.loss if math.isfinite(row.loss) else None} for row in rows]
        about = {"steps": asked.steps, "parameters": parameters, "rows": kept}
        MEASURED.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    cells = [
        (
            told(r),
            str(r.bits or ""),
            "row" if r.rows else "tensor",
            f"{r.loss:.3f}",
            f"{r.seconds:.0f}",
        )
        for r in rows
    ]
    show(f"decoder, {asked.steps} steps", ("rounded", "bits", "a scale per", "nats a byte", "seconds"), cells)


def told(row: Row) -> str:
    """What was rounded, in words."""
    return row.part or f"nothing, seed {row.seed}"


def measured(steps: int, parts: tuple[str, ...]) -> Iterator[Row]:
    """The trainings; those without rounding first, whose seeds show what differs by chance."""
    for seed in SEEDS:
        yield trained("", 0, False, steps, seed)
    for part in parts:
        for bits in BITS:
            for rows in (False, True):
                yield trained(part, bits, rows, steps)


def trained(part: str, bits: int, rows: bool, steps: int, seed: int = 0) -> Row:
    """One training; all of one seed begin with the same weights and read the same text."""
    torch.manual_seed(seed)
    model, start = network(), time.perf_counter()
    rounds = partial(rounded, bits=bits, rows=rows, signed=part != "second moments")
    if part and part not in MOMENTS:
        replace_layers(model, part, rounds)
    print(f"{part or 'nothing'}, {bits} bits, {'rows' if rows else 'tensor'}", flush=True)
    language.train(model, steps, seed, partial(round_moments, key=MOMENTS.get(part, ""), rounds=rounds))
    return Row(part, bits, rows, language.validation_loss(model), time.perf_counter() - start, seed)


def network() -> nn.Module:
    """The decoder of benchmarks/models/decoder.py, reduced."""
    return Decoder(width=64, heads=4, inner=256, depth=2)


def replace_layers(model: nn.Module, part: str, rounds: Rounds) -> None:
    """Puts rounding layers in the place of all linear ones but the last, which tells the byte."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and not (module is model and name == "linear"):
                setattr(module, name, Linear(child, part, rounds))


def round_moments(optimizer: torch.optim.Optimizer, key: str, rounds: Rounds) -> None:
    """Rounds one of the optimizer's states of each matrix, in place; vectors stay, as they are few numbers."""
    for parameter, state in optimizer.state.items():
        if key and parameter.ndim > 1:
            state[key].copy_(rounds(state[key]))


def straight(x: Tensor, rounds: Rounds) -> Tensor:
    """Rounded values whose gradient is that of the values themselves."""
    return x + (rounds(x.detach()) - x.detach())


def rounded(x: Tensor, bits: int, rows: bool, signed: bool = True) -> Tensor:
    """Values on steps up to the largest absolute one.

    Args:
        x: any shape.
        bits: of the integers.
        rows: a scale for each row (along the last axis: an output channel of weights and of their moments, a token of
            activations and gradients), not one in all.
        signed: whether half of the integers are negative.
    """
    largest = x.abs().amax(-1, keepdim=True) if rows else x.abs().max()
    step = largest.clamp_min(TINY) / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
    return (x / step).round() * step


if __name__ == "__main__":
    main()
