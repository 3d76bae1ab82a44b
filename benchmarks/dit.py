"""A diffusion transformer of our own training (train.py) in integers: its trajectories and images beside float ones."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from common import Array, at_hand, show
from models import dit_cifar10, resnet20_cifar10
from models.dit_cifar10 import CLASSES, SIDE, STEPS, Velocity, sample, sampler_times

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import load
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.widths.precision import parse

TRAJECTORIES = 13
"""Of calibration, with STEPS samples each; other noise than that of the figures."""
SEED = 1


@dataclass(frozen=True)
class Figures:
    """What counts of a network beside the float one, from the same noise.

    Attributes:
        steps: dB of what varies of the velocity of each step, at the float network's own noisy images.
        images: dB of what varies of the images that come out.
        distance: Fréchet distance between features of its images and of the float network's.
    """

    steps: Array
    images: float
    distance: float


def main() -> None:
    """Prints a table of files and one of their steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="images that each file makes")
    parser.add_argument("--recipes", nargs="+", default=["plain", "fast", "balanced"])
    parser.add_argument("--precisions", nargs="+", default=["w8a8", "w4a8"])
    parser.add_argument("--groups", nargs="*", type=int, default=[], help="numbers of groups of time steps, too")
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES, help="of calibration, with 20 samples each")
    asked = parser.parse_args()
    network = velocity_of(model := at_hand(dit_cifar10.create))
    noise, classes = start(asked.images, SEED)
    wanted, trajectory = sample(network, noise, classes)
    data, rows, steps = calibration(network, asked.trajectories), [], {}
    for precision in asked.precisions:
        for name in asked.recipes:
            one: BuildResult | None = None
            for groups in asked.groups or (0,):
                built = build(model, data, precision, name, groups, one)
                label = f"{precision} {name}"
                tried = [] if one else [(label, len(flatbuffer.to_bytes(built.graph)), lambda _, g=built.graph: g)]
                if groups:
                    tried.append((f"{label}, {groups} groups", len(built.to_bytes()), graphs_of(built)))
                for what, size, graph_at in tried:
                    found = figures(file_velocity(graph_at), network, wanted, trajectory, classes)
                    rows.append((what, f"{size:,}", *cells(found)))
                    steps[what] = found.steps
                    print(*rows[-1], sep="; ", flush=True)
                one = built
    show(f"{asked.images} images in {STEPS} steps", ("", "bytes", *HEADER), rows)
    times = [str(t) for t in sampler_times()[::2]]
    lines = [(name, *(f"{db:.1f}" for db in found[::2])) for name, found in steps.items()]
    show("dB of what varies of the velocity at every second step", ("time step", *times), lines)


def build(
    model: torch.nn.Module, data: dict[str, Array], precision: str, name: str, groups: int, before: BuildResult | None
) -> BuildResult:
    """A build of the network, accepted whatever comes of it; with groups of time steps where there are to be any."""
    # LiteRT unpacks int4 at every run; stored in int8 the integers are the same.
    recipe = replace(load(name), precision=replace(parse(precision), pack_int4=False))
    recipe = replace(recipe, quality=replace(recipe.quality, accept=True), ceiling=False)
    grouped = f"t={groups}" if groups else None
    return edgeqwt.build(model, calibration=data, recipe=recipe, groups=grouped, before=before)


def graphs_of(built: BuildResult) -> Callable[[int], Graph]:
    """The graph of a build that serves a time step."""
    found = built.groups.found if built.groups is not None else ()
    return lambda t: next((g.graph for g in found if g.lowest <= t < g.below), built.graph)


HEADER = ("velocity, dB", "worst step, dB", "images, dB", "Fréchet distance")


def cells(found: Figures) -> tuple[str, ...]:
    """A file's figures as text, under HEADER."""
    return (
        f"{found.steps.mean():.1f}",
        f"{found.steps.min():.1f}",
        f"{found.images:.1f}",
        f"{found.distance:.3f}",
    )


def start(count: int, seed: int) -> tuple[Array, Array]:
    """Noise (count, 3, 32, 32) and classes in turn (count,)."""
    noise = np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE), np.float32)
    return noise, np.arange(count) % CLASSES


def calibration(network: Velocity, trajectories: int = TRAJECTORIES, seed: int = SEED + 1) -> dict[str, Array]:
    """What the float network is asked on its way from noise to images: x, t and y, in no order."""
    noise, classes = start(trajectories, seed)
    _, seen = sample(network, noise, classes)
    order = np.random.default_rng(SEED).permutation(trajectories * STEPS)
    times = np.repeat(sampler_times(), trajectories)
    return {"x": np.concatenate(seen)[order], "t": times[order], "y": np.tile(classes, STEPS)[order]}


def figures(network: Velocity, reference: Velocity, images: Array, trajectory: list[Array], classes: Array) -> Figures:
    """What a network does from the same noise as the float one.

    Args:
        network: to be judged.
        reference: the float one.
        images: that the float one makes.
        trajectory: what it was asked on its way to them.
        classes: of the images.
    """
    steps = []
    for t, x in zip(sampler_times(), trajectory, strict=True):
        times = np.full(len(x), t)
        steps.append(varying_db(network(x, times, classes), reference(x, times, classes)))
    found, _ = sample(network, trajectory[0], classes)
    return Figures(np.array(steps), varying_db(found, images), frechet(features(found), features(images)))


def varying_db(found: Array, wanted: Array) -> float:
    """dB of what varies between samples over the error."""
    varies = np.square(wanted - wanted.mean(0)).sum(dtype=np.float64)
    return float(10 * np.log10(varies / np.square(found - wanted).sum(dtype=np.float64)))


def features(images: Array) -> Array:
    """What the ResNet-20 sees in images (n, 3, 32, 32) before its last layer (n, 64)."""
    network = resnet20_cifar10.create()
    network.linear = torch.nn.Identity()
    with torch.no_grad():
        found: Array = network(torch.from_numpy(images)).double().numpy()
    return found


def frechet(first: Array, second: Array) -> float:
    """The Fréchet distance between Gaussians of the same mean and covariance (Heusel et al. 2017, eq. 6)."""
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of sqrt(a·b) is that of sqrt(√a·b·√a), which is symmetric.
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * mixed)


def velocity_of(model: torch.nn.Module) -> Velocity:
    """A network in PyTorch as samplers ask it."""

    def velocity(x: Array, t: Array, y: Array) -> Array:
        with torch.no_grad():
            found: Array = model(*(torch.from_numpy(part) for part in (x, t, y))).numpy()
        return found

    return velocity


def file_velocity(graph_at: Callable[[int], Graph]) -> Velocity:
    """A file in LiteRT with XNNPACK as samplers ask it, one image at a time.

    Args:
        graph_at: the graph that is asked at a time step.
    """
    runners: dict[int, Runner] = {}

    def velocity(x: Array, t: Array, y: Array) -> Array:
        graph = graph_at(int(t[0]))
        runner = runners.setdefault(id(graph), xnnpack(graph))

        def run(worker: Runner, k: int) -> Array:
            given = {"x": x[k : k + 1].transpose(0, 2, 3, 1), "t": t[k : k + 1], "y": y[k : k + 1]}
            feed = graph_feed(graph, {i: given[graph.tensors[i].name] for i in graph.inputs})
            out = graph.outputs[0]
            return to_real(graph, out, worker.run(feed)[out]).transpose(0, 3, 1, 2)

        return np.concatenate(list(ordered([runner], run, range(len(x)))))

    return velocity


if __name__ == "__main__":
    main()
