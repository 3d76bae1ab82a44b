"""Whole builds beside five other tools, from the same networks: time, processor time, peak memory, quality."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accuracy import environments
from accuracy.children import last_line
from accuracy.cost import cost_of
from accuracy.peers.work import CALIBRATION, FILE, FLOAT, LOGITS, RESULT, TEST, arrays, channels_last, save_arrays
from accuracy.plan import METHODS, SIMULATED, Method
from common import ROOT, Array, Requirement, at_most, cifar10, finish, normalized, shared, show

if TYPE_CHECKING:
    from torch import nn

PEERS = (
    "ai_edge_quantizer/min-max/w8a8",
    "tflite_converter/int8, from the float file/w8a8",
    "litert_torch/PT2E/w8a8",
    "sony_mct/PTQ, uniform/w8a8",
    "aimet/PTQ, min-max/w8a8",
)
"""Each tool's own static quantization to 8 bits, as it comes."""
RECIPES = ("fast", "balanced")
RATIO = 1.5  # of the time of `fast` to that of the first peer
TESTED = 40  # samples that quality is judged on
REFERENCE, SAMPLES = "reference.npy", "calibration.npz"


@dataclass(frozen=True)
class Network:
    """A network that all tools quantize.

    Attributes:
        module: MODULE:FUNCTION of benchmarks/models, which makes it without weights.
        samples: of its inputs by name, (n, ...) each, by their number.
        count: of calibration samples, as the bounds have it.
        trained: whether the weights are.
        seconds, gigabytes: that `balanced` may take.
    """

    module: str
    samples: Callable[[int], dict[str, Array]]
    count: int
    trained: bool
    seconds: float | None = None
    gigabytes: float | None = None


def small_images(count: int) -> dict[str, Array]:
    """CIFAR-10's, normalized."""
    return {"x": normalized(cifar10()["calibration_images"][:count])}


def photographs(count: int) -> dict[str, Array]:
    """The first of ../shared/data/photos at 224, normalized."""
    from edgeqwt.calibration.images import ImageOptions, find_images, read_image

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    options = ImageOptions(size=(224, 224), layout="NCHW", mean=mean, std=std)
    paths = find_images(shared() / "data" / "photos")[:count]
    return {"x": np.concatenate([read_image(path, options) for path in paths])}


def token_ids(count: int) -> dict[str, Array]:
    """Sentences of docstrings."""
    from models import minilm
    from sentences import sentences

    return minilm.tokens(sentences(count)[0])


NETWORKS = {
    "ResNet-20": Network("resnet20_cifar10:ResNet20", small_images, 512, True, 13),
    "ResNet-56": Network("seeded:resnet56", small_images, 512, False, 25),
    "MobileNetV2": Network("seeded:mobilenetv2", photographs, 256, False, 60, 2.5),
    "ResNet-50": Network("resnet50:network", photographs, 256, False, 240, 2.5),
    "ViT-S": Network("seeded:vit_small", photographs, 256, False, 480, 4),
    "MiniLM": Network("minilm:MiniLM", token_ids, 64, True, 240, 4),
}


@dataclass(frozen=True)
class Cost:
    """Of a whole command: seconds by the clock and on all cores, and peak MiB of its largest process."""

    seconds: float
    cpu: float
    mib: float


@dataclass(frozen=True)
class Row:
    """What a tool made of a network.

    Attributes:
        tool: its name, or that of our recipe.
        makes: a file, or a simulation.
        costs: of each run; none where it failed.
        quality: dB of what varies; None where it failed.
        failure: why there are no costs.
    """

    tool: str
    makes: str
    costs: tuple[Cost, ...] = ()
    quality: float | None = None
    failure: str = ""

    @property
    def cost(self) -> Cost:
        """The quickest run."""
        return min(self.costs, key=lambda cost: cost.seconds)


def main() -> None:
    """Prints one table; runs of the tools take turns, and the quickest of each counts."""
    parser = argparse.ArgumentParser(prog="build_time", description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--samples", type=int, help="calibration samples; those that bounds are for by default")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--tools", nargs="+", default=(*PEERS, *RECIPES), help="beginnings of peers' names, recipes")
    parser.add_argument("--limit", type=float, default=20, metavar="MIN", help="minutes for one run (%(default)s)")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--judge", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(NETWORKS[asked.networks[0]], asked.samples, asked.prepare)
    elif asked.judge:
        print(varying_db(*asked.judge))
    else:
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """The whole comparison."""
    rows, required = [], []
    for name in asked.networks or NETWORKS:
        network = NETWORKS[name]
        count = asked.samples or network.count
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: what a process holds when it starts another one counts as that one's peak.
            _own("--prepare", folder, "--samples", str(count), name)
            before = os.getloadavg()[0]
            found = measured_rows(Path(folder), asked)
        print(f"{name}: load {before:.1f} before, {os.getloadavg()[0]:.1f} after", file=sys.stderr)
        rows += [(f"{name}, {count} samples", *cells(row)) for row in found]
        required += bounds(name, found, network if count == network.count else None)
    header = ("network", "tool", "makes", "seconds", "CPU seconds", "peak MiB", "dB of what varies")
    show(f"Whole commands, quickest of {asked.runs}", header, rows)
    finish(required)


def measured_rows(folder: Path, asked: argparse.Namespace) -> list[Row]:
    """One row for each tool."""
    commands = commands_on(folder, asked.tools)
    rows = {tool: Row(tool, makes) for tool, (_, makes, _) in commands.items()}
    for _ in range(asked.runs):
        for tool, (command, makes, output) in commands.items():
            try:
                cost = measured(command, output, asked.limit * 60)
                rows[tool] = Row(tool, makes, (*rows[tool].costs, cost), quality_of(folder, output))
            except RuntimeError as failure:
                rows[tool] = Row(tool, makes, failure=str(failure))
            print(" | ".join(cells(rows[tool])), file=sys.stderr, flush=True)
    return list(rows.values())


def commands_on(folder: Path, tools: list[str]) -> dict[str, tuple[list[str], str, Path]]:
    """The command of each tool that is asked for, what it makes, and its folder."""
    known: dict[str, Method] = {method.label: method for method in METHODS}
    found = {}
    for label in (label for label in PEERS if label.startswith(tuple(tools))):
        method, output = known[label], folder / label.split("/")[0]
        output.mkdir()
        command = [str(environments.python(method)), str(method.program), method.key, str(folder), str(output)]
        found[f"{method.peer}, {method.name}"] = command, "simulation" if method.runs == SIMULATED else "file", output
    ours = [sys.executable, "-m", "edgeqwt", "build", str(folder / FLOAT), "--target", "tflite", "--overwrite"]
    ours += ["--calibration", str(folder / SAMPLES), "--accept", "--no-cache"]
    for recipe in (tool for tool in tools if not any(label.startswith(tool) for label in PEERS)):
        output = folder / recipe
        command = [*ours, "--recipe", recipe, "--output", str(output)]
        found[f"edgeqwt, {recipe}"] = command, "file", output
    return found


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table; why there are no figures stands in the first place of them."""
    if row.failure:
        return row.tool, row.makes, f"failed: {row.failure}", "", "", ""
    cost, quality = row.cost, "" if row.quality is None else f"{row.quality:.1f}"
    return row.tool, row.makes, f"{cost.seconds:.1f}", f"{cost.cpu:.1f}", f"{cost.mib:,.0f}", quality


def bounds(name: str, rows: list[Row], network: Network | None) -> list[Requirement]:
    """What must hold: `fast` beside the first peer, and `balanced` with the samples that its bounds are for."""
    found = {row.tool.split(", ")[-1]: row.cost for row in rows if row.costs}
    required = []
    if "fast" in found and "min-max" in found and rows[0].costs:
        ratio = found["fast"].seconds / rows[0].cost.seconds
        required.append(at_most(f"{name}, fast: times {rows[0].tool}'s seconds", ratio, RATIO, "{:.2f}"))
    if network is not None and "balanced" in found:
        cost = found["balanced"]
        if network.seconds is not None:
            required.append(at_most(f"{name}, balanced: seconds", cost.seconds, network.seconds))
        if network.gigabytes is not None:
            required.append(at_most(f"{name}, balanced: GB", cost.mib * 2**20 / 1e9, network.gigabytes, "{:.2f}"))
    return required


def measured(command: list[str], output: Path, limit: float) -> Cost:
    """What a command costs; a peer says itself what it took before its evaluation.

    Raises:
        RuntimeError: it failed or took longer than the limit; the last line that it said.
    """
    log = output.with_suffix(".log")
    found = cost_of(command, log, limit, ROOT)
    if status := found.pop("status"):
        late = f"more than {limit / 60:.0f} minutes"
        raise RuntimeError(late if found["seconds"] >= limit else reason(log) or f"exit status {status}")
    own = Cost(**found)
    if not (output / RESULT).is_file():
        return own
    told = json.loads((output / RESULT).read_text())
    return Cost(told["whole_seconds"], told["cpu_seconds"], told["peak_mib"])


def reason(log: Path) -> str:
    """The last error that a log names, else its last line."""
    named = re.findall(r"^\w+(?:Error|Exception): .+", log.read_text(errors="replace"), re.MULTILINE)
    return " ".join(named[-1][:120].split()) if named else last_line(log)


def quality_of(folder: Path, output: Path) -> float:
    """dB of what varies, in a process of its own."""
    said = _own("--judge", str(folder), str(output))
    return float(said.splitlines()[-1])


def _own(*arguments: str) -> str:
    """What another process of this program prints."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def prepare(network: Network, count: int, folder: Path) -> None:
    """Writes what every tool gets: samples, the network and its parameters, the float file."""
    import torch
    from accuracy.inputs import save_network

    from edgeqwt.calibration.arrays import from_arrays
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer
    from edgeqwt.prepare.prepare import prepare as in_plain_forms

    samples = network.samples(count + TESTED)
    calibration, test = ({name: x[part] for name, x in samples.items()} for part in (slice(count), slice(count, None)))
    save_arrays(folder / CALIBRATION, calibration)
    save_arrays(folder / TEST, test)
    made = created(network, calibration)
    save_network(folder, network.module, made)
    with torch.no_grad():
        np.save(folder / REFERENCE, made(*map(torch.from_numpy, test.values())).numpy())
    model = convert(made, from_arrays({name: x[:4] for name, x in calibration.items()}), folder / "work")
    # ai-edge-quantizer stops at PADV2 before a max pool, which this takes away.
    graph = in_plain_forms(model.graph).graph
    (folder / FLOAT).write_bytes(flatbuffer.to_bytes(graph))
    np.savez(folder / SAMPLES, **{name: channels_last(x) for name, x in calibration.items()})


def created(network: Network, samples: Mapping[str, Array]) -> nn.Module:
    """The network, trained or with random weights that behave like trained ones, as in the zoo.

    Outputs of others hardly vary between photographs: a build then looks for remedies, which trained ones do not need.
    """
    import importlib

    import torch

    module, function = network.module.split(":")
    found = importlib.import_module(f"models.{module}")
    if network.trained:
        return found.create()
    sys.path.append(str(ROOT))
    from benchmarks.zoo.data import settle, smooth, standardized
    from benchmarks.zoo.networks import Network as Settled

    torch.manual_seed(0)
    (name, x), *_ = samples.items()
    made, images = (
        Settled(getattr(found, function)().eval(), {name: x[:1].shape}),
        [{name: row[None]} for row in x[:64]],
    )
    smooth(made)
    settle(made, images, 0.5)
    return standardized(made, images)


def varying_db(folder: Path, output: Path) -> float:
    """dB of what varies of a tool's outputs on test samples, against PyTorch's: as in `edgeqwt.verify.metrics`."""
    reference = np.load(folder / REFERENCE).astype(np.float64)
    path = output / LOGITS
    if path.is_file():
        found = np.load(path)
    else:
        files = [output / FILE, *output.glob("*.tflite"), *output.glob("*/*.tflite")]
        found = answers(next(file for file in files if file.is_file()), arrays(folder / TEST))
    varying = np.square(reference - reference.mean(axis=0)).sum() * len(reference) / (len(reference) - 1)
    return float(10 * np.log10(varying / np.square(found.reshape(reference.shape) - reference).sum()))


def answers(file: Path, samples: Mapping[str, Array]) -> Array:
    """A file's first output for every sample, as real values, from LiteRT with XNNPACK.

    Args:
        file: its inputs have the samples' names, or their order.
        samples: (n, ...) each, images with their channels first.
    """
    from edgeqwt.graph import flatbuffer
    from edgeqwt.runtime.boundary import graph_feed, to_real
    from edgeqwt.runtime.runners import xnnpack

    graph = flatbuffer.read(file)
    runner, out, rows = xnnpack(graph), graph.outputs[0], []
    held = [next((t for t in graph.inputs if n in graph.tensors[t].name), None) for n in samples]
    order = list(graph.inputs) if None in held or len(set(held)) < len(held) else held
    for parts in zip(*samples.values(), strict=True):
        feed = {}
        for t, part in zip(order, parts, strict=True):
            whole = np.array(part[None])
            feed[t] = whole if whole.shape == tuple(graph.tensors[t].shape) else channels_last(whole)
        rows.append(to_real(graph, out, runner.run(graph_feed(graph, feed))[out]))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
