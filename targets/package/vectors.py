"""Test vectors: inputs, and the output bytes that a runtime gave for them here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import DTYPES, Array, Graph, Tensor
from edgeqwt.runtime.boundary import graph_feed, limits
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.runtime.subprocess_runners import micro_host

SEED, RANDOM_VECTORS = 0, 4

RUNTIME_TITLES: Mapping[str, str] = {
    "reference": "LiteRT's reference kernels",
    "xnnpack": "LiteRT with XNNPACK",
    "tflm": "TFLite Micro's reference kernels",
}


@dataclass(frozen=True, eq=False)
class Vector:
    """One inference: arrays in the order of the graph's inputs and outputs, in its shapes and element types."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Vectors:
    """What a device must compute.

    Attributes:
        items: in the order in which they ran, in one interpreter: a model with state remembers.
        runtime: a key of `RUNTIME_TITLES`: whose outputs these are.
        random: whether the inputs are random integers and not data.
    """

    items: tuple[Vector, ...]
    runtime: str
    random: bool = False


def make_vectors(graph: Graph, runtime: str, feeds: Iterable[Mapping[int, Array]] | None = None) -> Vectors:
    """Runs a graph on samples.

    Args:
        graph: integer, or with float inputs and outputs.
        runtime: a key of `runtime.runners.RUNNERS`.
        feeds: by input tensor of the graph, real values or the tensor's own integers; a vector is made
            of each. None: `RANDOM_VECTORS` of random integers, the same at every call.

    Raises:
        InterpreterError: the runtime refuses the model.
        UnsupportedError: inputs of a type that no random values can be made of.
    """
    runner = micro_host().runner(runtime, graph) if runtime == "tflm" else RUNNERS[runtime](graph)
    items = []
    for feed in _random_feeds(graph) if feeds is None else feeds:
        ready = graph_feed(graph, feed)
        found = runner.run(ready)
        items.append(Vector(tuple(ready[t] for t in graph.inputs), tuple(found[t].copy() for t in graph.outputs)))
    return Vectors(tuple(items), runtime, random=feeds is None)


def _random_feeds(graph: Graph) -> Iterator[dict[int, Array]]:
    rng = np.random.default_rng(SEED)
    for _ in range(RANDOM_VECTORS):
        yield {t: _random(rng, graph.tensors[t]) for t in graph.inputs}


def _random(rng: np.random.Generator, tensor: Tensor) -> Array:
    if tensor.dtype in ("int8", "uint8", "int16"):
        low, high = limits(tensor.dtype)
        return rng.integers(low, high, tensor.shape, DTYPES[tensor.dtype], endpoint=True)
    if tensor.is_float:
        return rng.standard_normal(tensor.shape).astype(np.float32)
    # Token ids and the like: random ones may be out of range of a table, and nothing checks them.
    raise UnsupportedError(
        f"input {tensor.name!r} of type {tensor.dtype}",
        "package",
        "test vectors cannot be made up for it",
        "Build from the source model with calibration samples, which then are the test vectors.",
    )
