"""Networks on Snapdragon's NPU, compiled and simulated here: partitions, and what its arithmetic makes of the files.

Each network is built for a target, and the plain, uncompensated and compensated files run on the same test samples
in LiteRT with XNNPACK and in the simulation of the NPU. Figures are against the float file. Needs `edgeqwt tools
install qualcomm`. Nothing here is a latency. With `--keep FOLDER` a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Array, cifar10, figures, normalized, shared, show
from models import dscnn_cifar10, hybrid_cifar10, minilm, mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10
from sentences import sentences
from torch import nn

import edgeqwt
from edgeqwt.api_targets import target_of
from edgeqwt.benchmark.qualcomm import simulated
from edgeqwt.calibration.images import ImageOptions, find_images, read_image
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import linear_ops
from edgeqwt.output import progress_display
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import Runner, reference, xnnpack
from edgeqwt.target.plugin import compiled_for
from edgeqwt.verify.feeds import feed

COMPARED = 64
"""Samples on which the simulation is compared with LiteRT's reference kernels, which are slow."""
FILES = ("plain", "uncompensated", "compensated")
SLICE = 32
"""Samples between two writes to the folder that keeps them."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network of the benchmark.

    Attributes:
        name: for the table.
        model: a module, or the path of a float .tflite file.
        calibration, test: samples in the model's own layout: arrays, or arrays by input name.
        labels: of the test samples, or None.
    """

    name: str
    model: Callable[[], object]
    calibration: Callable[[], object]
    test: Callable[[], list[dict[str, Array]]]
    labels: Callable[[], Array] | None = None


@dataclass(frozen=True, eq=False)
class Built:
    """What is taken of a build; a file keeps it, which the converted model could not be part of.

    Attributes:
        floating, graph: the float file and the one that was kept.
        variants: integer files by name.
        feeds: of the float file, for each test sample, by input tensor.
    """

    floating: Graph
    graph: Graph
    variants: dict[str, Graph]
    feeds: list[dict[int, Array]]

    def integers(self, graph: Graph) -> list[dict[int, Array]]:
        """What an integer file of the build is fed with."""
        pairs = list(zip(self.floating.inputs, graph.inputs, strict=True))
        return [graph_feed(graph, {new: values[old] for old, new in pairs}) for values in self.feeds]


def main() -> None:
    """Builds, compiles, simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=sorted(NETWORKS), help="all of them by default")
    parser.add_argument("--target", default="qualcomm-sm8650")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--samples", type=int, default=512, help="test samples of each network")
    parser.add_argument("--files", nargs="*", default=FILES, choices=FILES)
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--seeded", action="store_true", help="random weights where there are no trained ones")
    parser.add_argument("--offsets", action="store_true", help="only the NPU's mean difference of each linear op")
    parser.add_argument("--partitions", action="store_true", help="only compile; simulate nothing")
    parser.add_argument("--compared", type=int, default=COMPARED, help="samples for the slow reference kernels")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for builds and outputs, to go on from")
    arguments = parser.parse_args()
    for name in arguments.names or NETWORKS:
        run(name, NETWORKS[name], arguments)


def run(name: str, network: Network, arguments: argparse.Namespace) -> None:
    """One network's rows."""

    def build() -> Built:
        found = edgeqwt.build(
            model_of(name, network, arguments.seeded),
            calibration=first(network.calibration(), arguments.calibration),
            target=arguments.target,
            recipe=arguments.recipe,
            accept=True,
            display=progress_display(),
        )
        floating = found.prepared.graph
        named = [binding.spec.name for binding in found.model.inputs]
        samples = [{n: sample.get(n, sample.get("")) for n in named} for sample in network.test()[: arguments.samples]]
        feeds = [feed(found.model, floating, sample) for sample in samples]
        return Built(floating, found.graph, dict(found.variants), feeds)

    keep = None if arguments.keep is None else arguments.keep / f"{name}-{arguments.recipe}-{arguments.target}"
    try:
        built = kept(keep and keep / f"built-{arguments.samples}-{arguments.calibration}", build)
    except FileNotFoundError as error:
        print(f"{name}: not run: {error}")
        return
    profile = target_of(arguments.target)
    compiled = compiled_for(built.graph, profile)
    on = compiled.ops - len(compiled.left)
    placed = f"{on} of {compiled.ops} ops on the NPU, {compiled.partitions} partitions"
    print(f"\n{network.name} ({arguments.recipe}): {placed}")
    for left in compiled.left[:10]:
        print(f"  on the CPU: {left.kind} {left.tensor[-60:]}")
    if arguments.offsets:
        offsets(built, arguments)
    elif not arguments.partitions:
        measure(built, network, arguments, keep)
    sys.stdout.flush()


def model_of(name: str, network: Network, random: bool) -> object:
    """The network, with random weights where it has not been trained and that is allowed."""
    try:
        return network.model()
    except FileNotFoundError:
        if not random:
            raise
        return seeded(name)


def kept[T](path: Path | None, make: Callable[[], T]) -> T:
    """What was made before and kept in a file of this program's own, else made now."""
    if path is None:
        return make()
    if path.is_file():
        found: T = pickle.loads(path.read_bytes())
        return found
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(pickle.dumps(made))
    path.with_suffix(".part").rename(path)
    return made


def offsets(built: Built, arguments: argparse.Namespace) -> None:
    """By how much each linear op is off on average, channel by channel: what fitting to the NPU could correct.

    Each op runs by itself in the simulation, on what LiteRT's reference kernels feed it.
    """
    plugin, graph = target_of(arguments.target).plugin, built.graph
    assert plugin is not None
    written = [t for op in graph.ops for t in op.outputs]
    runner = reference(graph, written)
    values = [{**f, **runner.run(f)} for f in built.integers(graph)[:COMPARED]]
    means, spread = [], []
    for i in linear_ops(graph):
        op, (part, fed) = graph.ops[i], graph.alone(i)
        found = simulated(part, [{new: v[old] for old, new in fed.items()} for v in values], plugin)
        if found.refused:
            continue
        pairs = zip(found.outputs, values, strict=True)
        off = np.stack([outs[0].astype(np.float64) - v[op.outputs[0]] for outs, v in pairs])
        flat = off.reshape(-1, off.shape[-1])
        means.append(float(np.abs(flat.mean(axis=0)).mean()))
        spread.append(float(flat.std()))
    print(f"  {len(means)} linear ops alone, {len(values)} samples: a channel's mean is {np.mean(means):.4f} steps off")
    print(f"  (at most {np.max(means):.4f} in a layer's mean); single values scatter by {np.mean(spread):.3f} steps")


def measure(built: Built, network: Network, arguments: argparse.Namespace, keep: Path | None) -> None:
    """Files in both arithmetics, against the float one."""
    labels = None if network.labels is None else network.labels()[: len(built.feeds)]
    plugin = target_of(arguments.target).plugin
    assert plugin is not None
    wanted = outputs(built.floating, xnnpack(built.floating), built.feeds)
    rows = []
    for file in arguments.files:
        if file not in built.variants:
            continue
        graph = built.variants[file]
        integers = built.integers(graph)
        phone, exact = xnnpack(graph), reference(graph)
        usual = [phone.run(values)[graph.outputs[0]] for values in integers]
        parts = []
        for k in range(0, len(integers), SLICE):
            simulation = partial(simulated, graph, integers[k : k + SLICE], plugin)
            parts.append(kept(keep and keep / f"{file}-{k}", simulation))
        if parts[0].refused:
            print(f"  {file}: the simulation refuses it: {parts[0].refused[:300]}")
            continue
        raw = [outs[0] for part in parts for outs in part.outputs]
        compared = [exact.run(values)[graph.outputs[0]] for values in integers[: arguments.compared]]
        steps = [np.abs(a.astype(np.float64) - b) for a, b in zip(raw, compared, strict=False)]
        apart = (f"{max(s.max() for s in steps):.0f}", f"{100 * np.mean([np.mean(s > 0) for s in steps]):.1f} %")
        for where, values, others in (("XNNPACK", usual, ("", "")), ("NPU, simulated", raw, apart)):
            real = np.concatenate([to_real(graph, graph.outputs[0], v).reshape(1, -1) for v in values])
            f = figures(real, wanted, labels)
            accuracy = "" if labels is None else f"{f.accuracy:.4f}"
            rows.append([file, where, accuracy, f"{f.agreement:.4f}", f"{varying_db(wanted, real):.2f}", *others])
    title = f"{network.name}: {len(built.feeds)} test samples, against the float file"
    header = ("file", "arithmetic", "accuracy", "agreement", "dB of what varies", "steps apart", "values apart")
    show(title, header, rows)


def outputs(graph: Graph, runner: Runner, feeds: Sequence[dict[int, Array]]) -> Array:
    """The first output, flat, for every sample."""
    return np.concatenate([runner.run(values)[graph.outputs[0]].reshape(1, -1) for values in feeds])


def varying_db(wanted: Array, found: Array) -> float:
    """SQNR of what varies between samples; shape (samples, values)."""
    signal = np.square(wanted - wanted.mean(axis=0, dtype=np.float64)).sum()
    return float(10 * np.log10(signal / np.square(found.astype(np.float64) - wanted).sum()))


def first(samples: object, count: int) -> object:
    """The first samples."""
    if isinstance(samples, dict):
        return {name: array[:count] for name, array in samples.items()}
    return samples[:count]  # type: ignore[index]


def seeded(name: str) -> nn.Module:
    """A network with random weights, batch norms settled on images."""
    torch.manual_seed(0)
    module: nn.Module = MODULES[name].network().train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.from_numpy(normalized(cifar10()["calibration_images"][:64])))
    return module.eval()


def cifar(part: str) -> Callable[[], Array]:
    """CIFAR-10's images as networks of our own take them."""
    return lambda: normalized(cifar10()[f"{part}_images"])


def each(arrays: Callable[[], Array]) -> Callable[[], list[dict[str, Array]]]:
    """Samples one by one."""
    return lambda: [{"": row[None]} for row in arrays()]


def pixels(part: str, scale: float) -> Callable[[], Array]:
    """CIFAR-10's images with channels last."""
    return lambda: cifar10()[f"{part}_images"].astype(np.float32) * np.float32(scale)


def photographs() -> Array:
    """300 photographs as visual wake words takes them; the first 128 calibrate."""
    options = ImageOptions(size=(96, 96), crop="none", layout="NHWC")
    return np.concatenate([read_image(path, options) for path in find_images(shared() / "data" / "photos")])


def words() -> Array:
    """Random features of keyword spotting's range: there are no recordings."""
    return np.random.default_rng(0).normal(0, 20, (640, 49, 10, 1)).astype(np.float32)


def texts(part: int) -> dict[str, Array]:
    """Sentences as tokens: 64 to calibrate, 512 others to test with."""
    return minilm.tokens(sentences(64, 512)[part])


def labels() -> Array:
    """Of CIFAR-10's test images."""
    return cifar10()["test_labels"]


def tiny(name: str) -> Callable[[], str]:
    """A float file of MLPerf Tiny."""
    return lambda: str(shared() / "models" / "mlperf_tiny" / f"{name}_float32.tflite")


def rows_of(arrays: dict[str, Array]) -> list[dict[str, Array]]:
    """Samples of several inputs one by one."""
    count = len(next(iter(arrays.values())))
    return [{name: array[k : k + 1] for name, array in arrays.items()} for k in range(count)]


MODULES = {"mobilenetv2": mobilenetv2_cifar10, "dscnn": dscnn_cifar10, "vit": vit_cifar10, "hybrid": hybrid_cifar10}
NETWORKS = {
    "image_classification": Network(
        "MLPerf image classification", tiny("image_classification"), pixels("calibration", 1.0),
        each(pixels("test", 1.0)), labels,
    ),
    "visual_wake_words": Network(
        "MLPerf visual wake words", tiny("visual_wake_words"), photographs, each(lambda: photographs()[128:])
    ),
    "keyword_spotting": Network(
        "MLPerf keyword spotting", tiny("keyword_spotting"), words, each(lambda: words()[128:])
    ),
    "resnet20": Network("ResNet-20", resnet20_cifar10.create, cifar("calibration"), each(cifar("test")), labels),
    **{
        name: Network(module.NAME, module.create, cifar("calibration"), each(cifar("test")), labels)
        for name, module in MODULES.items()
    },
    "minilm": Network("MiniLM", minilm.create, lambda: texts(0), lambda: rows_of(texts(1))),
}  # fmt: skip


if __name__ == "__main__":
    main()
