"""A diffusion transformer of our own training (train.py) with 2 to 4 bits a weight: codebooks beside equal steps."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from common import at_hand, show
from dit import HEADER, SEED, TRAJECTORIES, calibration, cells, figures, file_velocity, start, velocity_of
from models import dit_cifar10
from models.dit_cifar10 import sample

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.job import Job
from edgeqwt.mixed.cost import stored
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import Techniques, with_technique
from edgeqwt.progress import Stages, silent
from edgeqwt.rounding.structure import compressed
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.techniques.codebook import EQUAL, Codebook, CodebookCalibration
from edgeqwt.widths.precision import parse

RUNS = 60  # of which the fastest counts


def main() -> None:
    """Prints a row for each width in equal steps and for each length of sub-vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50, help="images that each file makes")
    parser.add_argument("--recipe", default="fast", help="whose techniques come before and after the rounding")
    parser.add_argument("--precisions", nargs="*", default=["w8a8", "w4a8", "w3a8", "w2a8"])
    parser.add_argument("--lengths", nargs="*", type=int, default=[2, 3, 4, 6], help="of sub-vectors")
    parser.add_argument("--calibrated", nargs="*", type=int, default=[], help="lengths with learned assignments, too")
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES, help="of calibration, with 20 samples each")
    asked = parser.parse_args()
    network = velocity_of(model := at_hand(dit_cifar10.create))
    noise, classes = start(asked.images, SEED)
    wanted, trajectory = sample(network, noise, classes)
    job = edgeqwt.open_job(model, calibration=calibration(network, asked.trajectories), recipe=asked.recipe)
    usual, rows, graphs = job.recipe.techniques, list[tuple[str, ...]](), list[Graph]()
    plans = [(f"equal steps, {p}", p, with_technique(usual, EQUAL)) for p in asked.precisions]
    plans += [(f"sub-vectors of {n}", "w8a8", coded(usual, n)) for n in asked.lengths]
    plans += [(f"sub-vectors of {n}, calibrated", "w8a8", coded(usual, n, learned=True)) for n in asked.calibrated]
    for label, precision, techniques in plans:
        began = time.process_time()
        graph, content = made(job, precision, techniques)
        seconds = time.process_time() - began
        found = figures(file_velocity(lambda _, g=graph: g), network, wanted, trajectory, classes)  # type: ignore[misc]
        sizes = f"{len(content):,}", f"{compressed(content):,}"
        rows.append((label, *sizes, *cells(found), f"{seconds:.0f}"))
        graphs.append(graph)
        print(*rows[-1], sep="; ", flush=True)
    show(f"{asked.images} images", ("", "bytes", "after DEFLATE", *HEADER, "CPU s"), rows)
    times = [(row[0], f"{ms:.2f}") for row, ms in zip(rows, milliseconds(graphs), strict=True)]
    show(f"Least of {RUNS} runs in turn", ("", "ms"), times)


def coded(usual: Techniques, length: int, learned: bool = False) -> Techniques:
    """The techniques with codebooks in place of their rounding, and what learns assignments behind it."""
    found = with_technique(usual, Codebook(length=length))
    return with_technique(found, CodebookCalibration(length=length)) if learned else found


def made(job: Job, precision: str, techniques: Techniques) -> tuple[Graph, bytes]:
    """The integer graph that techniques make, as the file has it, and the file.

    LiteRT unpacks int4 at every run: the graph has those weights in int8, which are the same integers.
    """
    recipe = replace(job.recipe, precision=parse(precision), techniques=techniques)
    found = make(job.context, techniques, recipe.precision, Stages(silent))
    for step in found.steps:
        if isinstance(step.technique, Codebook | CodebookCalibration):
            print(*step.account.sentences, sep="\n")
    plain = replace(recipe, precision=replace(recipe.precision, pack_int4=False))
    return stored(found.graph, plain, job.target), flatbuffer.to_bytes(stored(found.graph, recipe, job.target))


def milliseconds(graphs: list[Graph]) -> list[float]:
    """Of one run of each in XNNPACK on one thread, the fastest of some that take turns."""
    rng, runs = np.random.default_rng(0), list[Callable[[], object]]()
    for graph in graphs:
        given = {t: rng.standard_normal(graph.tensors[t].shape).astype(np.float32) for t in graph.inputs}
        whole = {t: np.zeros(v.shape, np.int64) for t, v in given.items() if graph.tensors[t].dtype.startswith("int6")}
        runs.append(partial(xnnpack(graph).run, graph_feed(graph, given | whole)))
    least = [math.inf] * len(runs)
    for _ in range(RUNS):
        for k, run in enumerate(runs):
            began = time.perf_counter()
            run()
            least[k] = min(least[k], 1000 * (time.perf_counter() - began))
    return least


if __name__ == "__main__":
    main()
