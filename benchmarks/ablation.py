"""Every lever alone, and what is lost without it: ranges, rounding, corrections on two networks at 8 and 4 bits."""

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

from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.validate import validated
from edgeqwt.compensate.linear_layer import add_linear_layers
from edgeqwt.compensate.solve import Options
from edgeqwt.converters.convert import convert
from edgeqwt.engine import LEVERS, bare, make
from edgeqwt.equalize.equalize import Equalization
from edgeqwt.graph import flatbuffer
from edgeqwt.job import Job
from edgeqwt.mixed.cost import file_size
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Stages
from edgeqwt.quantize.precision import parse
from edgeqwt.quantize.ranges import RULES, MinMax, Mse
from edgeqwt.quantize.rounding import Erq, Gptq, Nearest
from edgeqwt.quantize.search import SEARCHES, NoSearch
from edgeqwt.quantize.weight_scales import WEIGHT_RULES, MinMaxWeights, MseWeights
from edgeqwt.recipes.recipe import Recipe, load
from edgeqwt.reconstruct.rule import Reconstruction
from edgeqwt.report.terminal import decibels
from edgeqwt.targets.load import load as load_target
from edgeqwt.verify.layers import layer_quality

EVERY = 5  # test images are sorted by difficulty: every so many of them
PRECISIONS = ("w8a8", "w4a8")
MARGINLESS = {
    "margins": Mse(margins=False),
    "weight of clipping": Mse(clipping=1),
    "margins and weight of clipping": Mse(clipping=1, margins=False),
}
SOFT = Reconstruction(rounding="soft", iterations=1000, rate=0.1)


@dataclass(frozen=True, eq=False)
class Network:
    """A float graph with its calibration samples, and test images in its layout."""

    name: str
    job: Job
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
    plain = replace(bare(balanced), ranges=MinMax())
    mse = replace(plain, ranges=Mse())
    learned = Reconstruction()
    yield Row("alone", "nothing: extremes as ranges, nearest", plain)
    for name, recipe in {
        "equalization": replace(plain, equalization=balanced.equalization),
        "equalization and absorbed biases": replace(plain, equalization=Equalization(absorb=True)),
        "islands": replace(plain, islands=balanced.islands),
        "joins": replace(plain, joins=balanced.joins),
        "ranges: mse": mse,
        "weighted ranges": replace(mse, weighting=balanced.weighting),
        "weight scales: mse": replace(plain, weights=MseWeights()),
        "search: hessian": replace(plain, search=SEARCHES["hessian"]()),
        "rounding: balanced's": replace(plain, rounding=balanced.rounding),
        "learned rounding": replace(plain, reconstruction=learned),
        "compensation": replace(plain, compensate=True),
    }.items():
        yield Row("alone", name, recipe)
    yield Row("left out", "nothing: balanced", balanced)
    for name, without in LEVERS.items():
        if without(balanced) != balanced:
            yield Row("left out", name, without(balanced))
    yield from (Row("left out", name, replace(balanced, ranges=ranges)) for name, ranges in MARGINLESS.items())
    yield Row("added", "absorbed biases", replace(balanced, equalization=Equalization(absorb=True)))
    yield Row("added", "weight scales: mse", replace(balanced, weights=MseWeights()))
    yield Row("added", "search: hessian", replace(balanced, search=SEARCHES["hessian"]()))
    yield Row("added", "learned rounding", replace(balanced, reconstruction=learned))
    for name, rule in RULES.items():
        yield Row("ranges", name, replace(plain, ranges=rule()))
    yield from (Row("ranges", f"mse without {n}", replace(plain, ranges=r)) for n, r in MARGINLESS.items())
    for name, method in SEARCHES.items():
        if method is not NoSearch:
            yield Row("ranges", name, replace(plain, search=method()))
    for name, weights in WEIGHT_RULES.items():
        if weights is not MinMaxWeights:
            yield Row("weight scales", name, replace(plain, weights=weights()))
    for name, rounding in {
        "nearest": Nearest(),
        "gptq": Gptq(),
        "gptq, float targets": Gptq(float_targets=True),
        "gptq, float targets, scales, refined": balanced.rounding,
        "erq": Erq(),
    }.items():
        yield Row("rounding", name, replace(mse, rounding=rounding))
    for name, reconstruction in {
        "learned, layer (AdaRound)": replace(SOFT, scope="layer"),
        "learned, block (BRECQ without Fisher)": replace(SOFT, scope="block"),
        "learned, block (BRECQ)": replace(SOFT, scope="block", fisher=True),
        "learned, network": learned,
    }.items():
        yield Row("rounding", name, replace(mse, reconstruction=reconstruction))
    for name, options in {
        "offset (bias correction)": Options(gain=False, rewrite_scales=False),
        "gain and offset": Options(rewrite_scales=False),
        "gain, offset and scales (CWAC)": Options(),
    }.items():
        yield Row("corrections", name, replace(mse, compensate=True, compensation=options))
    yield Row("corrections", "linear layers (QwT)", mse, linear=True)


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
        and (asked.learned or row.recipe.reconstruction is None)
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
    start, job = time.perf_counter(), network.job
    made = make(job, row.recipe, Stages())
    graph = made.graph
    if row.linear:
        graph = add_linear_layers(graph, made.reference, job.feeds(job.samples), row.recipe.ranges).graph
    seconds = time.perf_counter() - start
    held_out = layer_quality(made.reference, {"": graph}, job.feeds(job.held_out))[""].worst_db
    got = figures(outputs(graph, network.images), network.wanted, network.labels)
    size = file_size(graph, row.recipe, job.target)
    told = f"{row.group}: {row.name}"
    return told, decibels(held_out), f"{got.agreement:.4f}", f"{got.accuracy:.4f}", f"{size:,}", f"{seconds:.1f}"


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
    job = Job(model, graph, validated(samples, [b.spec for b in model.inputs]), load_target("tflite"))
    some = [np.ascontiguousarray(image[None]) for image in images]
    return Network(name, job, some, labels, outputs(graph, some))


NETWORKS: dict[str, Callable[[], Network]] = {
    "resnet20": resnet20,
    "image_classification": mlperf_image_classification,
}


if __name__ == "__main__":
    main()
