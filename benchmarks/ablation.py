"""Every technique alone, and what is lost without it, on two networks at 8 and 4 bits."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from common import CALIBRATION, Array, cifar10, figures, normalized, outputs, show
from mlperf_tiny import file, image_classification
from models.resnet20_cifar10 import create
from qwt.linear_layer import add_linear_layers

from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converters.convert import convert
from edgeqwt.graph import flatbuffer
from edgeqwt.mixed.cost import file_size
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import RANGES, Technique
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.report.terminal import decibels
from edgeqwt.target.load import load as load_target
from edgeqwt.techniques import registry
from edgeqwt.techniques.aespa import Aespa
from edgeqwt.techniques.channel_shift import ChannelShift
from edgeqwt.techniques.codebook import Codebook, CodebookCalibration
from edgeqwt.techniques.cwac import BiasCorrection, Cwac
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.techniques.erq import Erq
from edgeqwt.techniques.gptq import Gptq
from edgeqwt.techniques.hessian_guided import HessianGuided
from edgeqwt.techniques.ranges import MinMaxRanges, MseRanges
from edgeqwt.techniques.reconstruction import AdaRound, Brecq, FimaQ, Mrem, Reconstruction
from edgeqwt.techniques.regions16 import Regions16, Regions16Review
from edgeqwt.techniques.weight_scales import MseWeightScales
from edgeqwt.techniques.weighted_ranges import WeightedRanges
from edgeqwt.widths.precision import parse

EVERY = 5  # test images are sorted by difficulty: every so many of them
PRECISIONS = ("w8a8", "w4a8")
MARGINLESS = {
    "margins": MseRanges(margins=False),
    "weight of clipping": MseRanges(clipping=1),
    "margins and weight of clipping": MseRanges(clipping=1, margins=False),
}


@dataclass(frozen=True, eq=False)
class Network:
    """A float graph with its calibration samples, and test images in its layout."""

    name: str
    context: Context
    images: list[Array]
    labels: Array
    wanted: Array


@dataclass(frozen=True)
class Row:
    """One build of the table.

    Attributes:
        group: rows that are to be compared with each other.
        name: what is special about it.
        recipe: without its precision.
        linear: whether QwT's linear layers are added afterwards.
    """

    group: str
    name: str
    recipe: Recipe
    linear: bool = False


def rows() -> Iterator[Row]:
    """The table, top to bottom."""
    balanced = load("balanced")
    nothing = replace(balanced, techniques=(MinMaxRanges(),))
    mse = nothing.with_technique(MseRanges())
    yield Row("alone", "nothing: extremes as ranges, nearest", nothing)
    for technique in (
        *balanced.techniques,
        Equalization(absorb=True),
        MseWeightScales(),
        HessianGuided(),
        Reconstruction(),
    ):
        if not technique.part_of:
            recipe = (mse if isinstance(technique, WeightedRanges) else nothing).with_technique(technique)
            yield Row("alone", named(technique), reviewed(recipe))
    yield Row("left out", "nothing: balanced", balanced)
    for technique in balanced.techniques:
        if not technique.part_of:
            yield Row("left out", technique.name, balanced.without(technique.name))
    yield from (Row("left out", name, balanced.with_technique(ranges)) for name, ranges in MARGINLESS.items())
    for technique in (Equalization(absorb=True), MseWeightScales(), HessianGuided(), Reconstruction()):
        yield Row("added", named(technique), balanced.with_technique(technique))
    yield Row("added", "channel_shift", with_shift(balanced))
    for name, rule in registry.of_role(RANGES).items():
        yield Row("ranges", name, nothing.with_technique(rule()))
    yield from (Row("ranges", f"mse_ranges without {n}", nothing.with_technique(r)) for n, r in MARGINLESS.items())
    for role in (HessianGuided.role, MseWeightScales.role):
        for name, cls in registry.of_role(role).items():
            yield Row("scales", name, nothing.with_technique(cls()))
    yield Row("rounding", "nearest", mse)
    for name, rounding in {
        "gptq": Gptq(),
        "gptq, float targets": Gptq(float_targets=True),
        "gptq, float targets, scales, refined": Gptq(float_targets=True, scales=8, refine=True),
        "aespa": Aespa(),
        "aespa, float targets, scales, refined": Aespa(float_targets=True, scales=8, refine=True),
        "erq": Erq(),
        "learned, layer (AdaRound)": AdaRound(),
        "learned, block (BRECQ without Fisher)": Brecq(fisher=False),
        "learned, block (BRECQ)": Brecq(),
        "learned, block (FIMA-Q)": FimaQ(),
        "learned, block after block": Mrem(processes=0),
        "learned, blocks at once (MREM), 1 process": Mrem(processes=1),
        "learned, blocks at once (MREM), 2 processes": Mrem(processes=2),
        "learned, network": Reconstruction(),
    }.items():
        yield Row("rounding", name, mse.with_technique(rounding))
    coded = mse.with_technique(Codebook())
    yield Row("rounding", "codebook, sub-vectors of 4", coded)
    yield Row("rounding", "codebook, learned assignments", coded.with_technique(CodebookCalibration()))
    for name, correction in {
        "offset (bias correction)": BiasCorrection(),
        "gain and offset": Cwac(rewrite_scales=False),
        "gain, offset and scales (CWAC)": Cwac(),
        "CWAC, no margin for gains": Cwac(gain_margin=0.0),
        "CWAC, 5 % margin for gains": Cwac(gain_margin=0.05),
    }.items():
        yield Row("corrections", name, mse.with_technique(correction))
    yield Row("corrections", "linear layers (QwT)", mse, linear=True)


def with_shift(recipe: Recipe) -> Recipe:
    """The recipe with shifts of channels before equalization, which it must have."""
    k = [technique.name for technique in recipe.techniques].index("equalization")
    return replace(recipe, techniques=(*recipe.techniques[:k], ChannelShift(), *recipe.techniques[k:]))


def named(technique: Technique) -> str:
    """A technique's name, and that of what is on besides its defaults."""
    more = ", absorbed biases" if isinstance(technique, Equalization) and technique.absorb else ""
    return f"{technique.name}{more}"


def reviewed(recipe: Recipe) -> Recipe:
    """With what takes 16 bits back from regions where they do not pay."""
    return recipe if recipe.find(Regions16) is None else recipe.with_technique(Regions16Review())


def main() -> None:
    """Prints one table per network and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=["*"], help='such as "ranges: *" or "*: gptq*" (default: all)')
    parser.add_argument("--network", choices=sorted(NETWORKS), action="append", help="(default: all)")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="(default: all)")
    parser.add_argument("--learned", action="store_true", help="also the rows that learn rounding: minutes each")
    asked = parser.parse_args()
    chosen = [
        row
        for row in rows()
        if any(fnmatch(f"{row.group}: {row.name}", pattern) for pattern in asked.rows)
        and (asked.learned or not any(technique.slow for technique in row.recipe.techniques))
    ]
    for name in asked.network or NETWORKS:
        network = NETWORKS[name]()
        for precision in asked.precision or PRECISIONS:
            table(network, precision, chosen)


def table(network: Network, precision: str, chosen: list[Row]) -> None:
    """One table; each row is also printed when it is there."""
    found = []
    for row in chosen:
        found.append(cells(network, replace(row, recipe=replace(row.recipe, precision=parse(precision)))))
        print(f"{network.name}, {precision}: {' | '.join(found[-1])}", flush=True)
    header = ("row", "SQNR on held-out samples, dB", "same top-1", "accuracy", "bytes", "seconds")
    show(f"{network.name}, {precision}, {len(network.images):,} test images", header, found)


def cells(network: Network, row: Row) -> tuple[str, ...]:
    """Builds and measures one row."""
    start, context = time.perf_counter(), network.context
    made = make(context, row.recipe.techniques, row.recipe.precision, Stages())
    graph = made.graph
    if row.linear:
        graph = add_linear_layers(graph, made.reference, context.fit, row.recipe.ranges).graph
    seconds = time.perf_counter() - start
    held_out = context.gate.quality(made.reference, {"": graph})[""].worst_db
    got = figures(outputs(graph, network.images), network.wanted, network.labels)
    size = file_size(graph, row.recipe, context.target)
    label = f"{row.group}: {row.name}"
    return label, decibels(held_out), f"{got.agreement:.4f}", f"{got.accuracy:.4f}", f"{size:,}", f"{seconds:.1f}"


def resnet20() -> Network:
    """From PyTorch."""
    data = cifar10()
    calibration = normalized(data["calibration_images"][:CALIBRATION])
    images = normalized(data["test_images"][::EVERY]).transpose(0, 2, 3, 1)
    return network("ResNet-20", create(), {"x": calibration}, images, data["test_labels"][::EVERY])


def mlperf_image_classification() -> Network:
    """MLPerf Tiny's float file."""
    task = image_classification()
    ((calibration, test),) = task.folds
    assert task.labels is not None
    path = file(task.name, "float32")
    graph = flatbuffer.read(path)
    samples = {graph.tensors[graph.inputs[0]].name: calibration}
    return network("MLPerf image classification", path, samples, test[::EVERY], task.labels[::EVERY])


def network(name: str, source: object, calibration: dict[str, Array], images: Array, labels: Array) -> Network:
    """Converted and run in float once for all rows."""
    samples = open_samples(calibration)
    with tempfile.TemporaryDirectory() as folder:
        model = convert(source, samples, Path(folder))
    graph = prepare(model.graph).graph
    found = validated(samples, [b.spec for b in model.inputs])
    context = Context.of(model, graph, found, load_target("tflite"))
    some = [np.ascontiguousarray(image[None]) for image in images]
    return Network(name, context, some, labels, outputs(graph, some))


NETWORKS: dict[str, Callable[[], Network]] = {
    "resnet20": resnet20,
    "image_classification": mlperf_image_classification,
}


if __name__ == "__main__":
    main()
