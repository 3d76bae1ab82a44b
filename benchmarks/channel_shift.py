"""What shifts of channels gain on networks of train.py: files with and without, all else as in a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from ablation import Network, network, with_shift
from common import CALIBRATION, at_hand, cifar10, figures, normalized, outputs, show
from models import hybrid_cifar10, linear_attention_cifar10, mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10

from edgeqwt.passes.run import make
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.techniques.channel_shift import ChannelShift
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.widths.precision import parse

NETWORKS = {
    "hybrid": hybrid_cifar10,
    "linear_attention": linear_attention_cifar10,
    "mobilenetv2": mobilenetv2_cifar10,
    "resnet20": resnet20_cifar10,
    "vit": vit_cifar10,
}


def main() -> None:
    """Prints a table; each row is also printed when it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["hybrid"])
    parser.add_argument("--recipes", nargs="+", default=["int8-only", "balanced"], help="with equalization")
    parser.add_argument("--precisions", nargs="+", default=["w8a8", "w4a8"])
    parser.add_argument("--images", type=int, default=2000, help="test images")
    parser.add_argument("--equalization", type=int, metavar="N", help="samples that equalization takes gradients of")
    asked = parser.parse_args()
    data, rows = cifar10(), []
    for name in asked.networks:
        images = normalized(data["test_images"][: asked.images]).transpose(0, 2, 3, 1)
        calibration = {"x": normalized(data["calibration_images"][:CALIBRATION])}
        model = at_hand(NETWORKS[name].create)
        work = network(name, model, calibration, images, data["test_labels"][: asked.images])
        for recipe in asked.recipes:
            for precision in asked.precisions:
                base = replace(load(recipe), precision=parse(precision))
                if asked.equalization:
                    base = equalized_on(base, asked.equalization)
                for label, tried in (("without", base), ("shifted", with_shift(base))):
                    rows.append((f"{name}, {recipe}, {precision}, {label}", *cells(work, tried)))
                    print(*rows[-1], sep=" | ", flush=True)
    show(f"{asked.images:,} test images", ("", "output SQNR dB", "same top-1", "accuracy"), rows)


def equalized_on(recipe: Recipe, samples: int) -> Recipe:
    """The recipe with so many samples for equalization."""
    techniques = (replace(t, samples=samples) if isinstance(t, Equalization) else t for t in recipe.techniques)
    return replace(recipe, techniques=tuple(techniques))


def cells(work: Network, recipe: Recipe) -> Iterator[str]:
    """Builds a file, compensation included whatever the build would say of it, and measures it."""
    made = make(work.context, recipe.techniques, recipe.precision, Stages())
    for step in made.steps:
        if isinstance(step.technique, ChannelShift):
            print(*step.account.sentences, [row["shrunk"] for row in step.account.data.get("groups", ())])
    found = figures(outputs(made.graph, work.images), work.wanted, work.labels)
    yield from (f"{found.sqnr:.2f}", f"{found.agreement:.4f}", f"{found.accuracy:.4f}")


if __name__ == "__main__":
    main()
