"""SHA-256 of the files that six small networks become, at every precision and by every recipe.

A change of the code that is to change no file leaves the table as it is; one that is to change some says which:
`bytes.py > before.txt`, then `bytes.py --against before.txt`. The networks have seeded weights and need nothing from
outside: a residual network, a depthwise-separable one, transformers with normalization before and after their
products, a convolution-transformer hybrid, and one with two inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import edgeqwt
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph import flatbuffer
from edgeqwt.recipe.recipe import names
from edgeqwt.widths.precision import Mixed

PRECISIONS = ("w8a8", "w4a8", "w8a16", "mixed")
SAMPLES = 24
WIDTH, TOKENS = 16, 8


class Residual(nn.Module):
    """Two residual blocks, one of which halves the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.first = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH),
        )  # fmt: skip
        self.second = nn.Sequential(
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1),
        )
        self.shortcut = nn.Conv2d(WIDTH, 2 * WIDTH, 1, stride=2)
        self.head = nn.Linear(2 * WIDTH, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = torch.relu(x + self.first(x))
        x = torch.relu(self.shortcut(x) + self.second(x))
        found: Tensor = self.head(x.mean(dim=(2, 3)))
        return found


class Separable(nn.Sequential):
    """Inverted bottlenecks without shortcuts."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), nn.ReLU6()]
        for _ in range(2):
            layers += [nn.Conv2d(WIDTH, 2 * WIDTH, 1), nn.ReLU6()]
            layers += [nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1, groups=2 * WIDTH), nn.ReLU6()]
            layers += [nn.Conv2d(2 * WIDTH, WIDTH, 1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))


class Block(nn.Module):
    """Attention and a feed-forward part, normalized before or after."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.before = before
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.forward_part = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(1, TOKENS, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / (WIDTH // 2) ** 0.5).softmax(-1)
        found: Tensor = self.out((scores @ v).transpose(1, 2).reshape(1, TOKENS, WIDTH))
        return found

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in zip(self.norms, (self.attention, self.forward_part), strict=True):
            x = x + part(norm(x)) if self.before else norm(x + part(x))
        return x


class Transformer(nn.Module):
    """Two blocks on rows of an image or on words."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(24, WIDTH)
        self.blocks = nn.Sequential(Block(before), Block(before))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.embed(tokens)).mean(dim=1))
        return found


class Hybrid(nn.Module):
    """Convolutions, then a block on what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=4, padding=1), nn.SiLU())
        self.narrow = nn.Conv2d(WIDTH, WIDTH, (2, 1), stride=(2, 1))
        self.block, self.head = Block(before=True), nn.Linear(WIDTH, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.narrow(self.stem(image)).flatten(2).transpose(1, 2)
        found: Tensor = self.head(self.block(tokens).mean(dim=1))
        return found


class TwoInputs(nn.Module):
    """An image and a vector, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = nn.Conv2d(3, WIDTH, 3, stride=2), nn.Linear(5, WIDTH)
        self.head = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        seen = torch.relu(self.image(image)).mean(dim=(2, 3))
        found: Tensor = self.head(torch.cat([seen, torch.tanh(self.vector(vector))], dim=1))
        return found


IMAGE, ROWS = {"image": (1, 3, 16, 16)}, {"tokens": (1, TOKENS, 24)}
MODELS: Mapping[str, tuple[Callable[[], nn.Module], Mapping[str, tuple[int, ...]]]] = {
    "residual": (Residual, IMAGE),
    "separable": (Separable, {"input": (1, 3, 16, 16)}),
    "pre-norm": (lambda: Transformer(before=True), ROWS),
    "post-norm": (lambda: Transformer(before=False), ROWS),
    "hybrid": (Hybrid, IMAGE),
    "two inputs": (TwoInputs, {**IMAGE, "vector": (1, 5)}),
}


def made(name: str, folder: Path) -> tuple[Path, dict[str, npt.NDArray[np.float32]]]:
    """A network's float file and its samples; converted once for all that is built of it."""
    create, shapes = MODELS[name]
    torch.manual_seed(0)
    module, generator = create().eval(), np.random.default_rng(0)
    if name == "pre-norm":
        # A few channels many times as large as the others, as trained transformers have them.
        with torch.no_grad():
            module.get_submodule("embed").weight[:2] *= 20  # type: ignore[index]
    data = {key: generator.normal(size=(SAMPLES, *shape[1:])).astype(np.float32) for key, shape in shapes.items()}
    result = edgeqwt.build(module, calibration=data, recipe="plain", accept=True)
    path = folder / f"{name.replace(' ', '_')}.tflite"
    flatbuffer.write(result.model.graph, path)
    # The samples as the float file has them: images with their channels last.
    layout = {
        binding.spec.name: data[binding.spec.name].transpose(binding.permutation)
        if binding.permutation
        else data[binding.spec.name]
        for binding in result.model.inputs
    }
    names_of = [result.model.graph.tensors[t].name for t in result.model.graph.inputs]
    return path, {
        tensor: np.ascontiguousarray(values) for tensor, values in zip(names_of, layout.values(), strict=True)
    }


def main() -> int:
    """Prints one line per file; with --against, only those that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help='such as "residual w4a8 *" (default: all)')
    parser.add_argument("--against", type=Path, help="a table of an earlier run: says what differs, exit code 1")
    options = parser.parse_args()
    known = dict(line.rsplit(" ", 1) for line in options.against.read_text().splitlines()) if options.against else {}
    cases = [
        (name, precision, recipe)
        for name in MODELS
        for recipe in names()
        for precision in PRECISIONS
        if any(fnmatch(f"{name} {precision} {recipe}", pattern) for pattern in options.patterns)
    ]
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        sources = {name: made(name, Path(folder)) for name in dict.fromkeys(name for name, *_ in cases)}
        for name, precision, recipe in cases:
            path, data = sources[name]
            mixed = Mixed(min_sqnr=20.0) if precision == "mixed" else None
            try:
                result = edgeqwt.build(
                    path, calibration=data, recipe=recipe, precision=precision, mixed=mixed, accept=True
                )
                digest = hashlib.sha256(flatbuffer.to_bytes(result.graph)).hexdigest()
            except EdgeqwtError as error:  # a result, too
                digest = type(error).__name__
            key = f"{name} {precision} {recipe}"
            differing += key in known and known[key] != digest
            if not known or known.get(key) != digest:
                print(key, digest, flush=True)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
