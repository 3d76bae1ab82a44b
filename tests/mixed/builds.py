"""Small networks as contexts of builds, with layers whose sensitivity is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.validate import validated
from edgeqwt.converters.convert import convert
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.passes.context import Context
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import TargetProfile
from tests.chain import CONV, NONE, Chain, noise

LITERT = TargetProfile("tflite", "LiteRT", ("reference", "xnnpack"))
MICRO = TargetProfile("tflm", "TFLite Micro", ("tflm",))
LAYERS = ("first", "second", "third", "fourth")


def network(delicate: str = "") -> Graph:
    """Four branches of one convolution each, added up.

    Args:
        delicate: a branch that counts for ten times as much as each of the others.
    """
    chain = Chain()
    x = chain.input((1, 8, 8, 8), "image")
    total = -1
    for k, name in enumerate(LAYERS):
        weights = chain.constant(noise(16, 3, 3, 8, seed=k, scale=1.0 if name == delicate else 0.1), f"{name}/weights")
        branch = chain.op("CONV_2D", x, weights, chain.constant(noise(16, seed=9 + k), f"{name}/b"), name=name, **CONV)
        total = branch if total < 0 else chain.op("ADD", total, branch, name=f"sum{k}", **NONE)
    return chain.graph(total)


def job(graph: Graph, folder: Path, target: TargetProfile = LITERT, count: int = 24) -> Context:
    """The context of a build on normally distributed samples."""
    path = folder / "float.tflite"
    flatbuffer.write(graph, path)
    (given,) = graph.inputs
    tensor = graph.tensors[given]
    values = np.random.default_rng(3).standard_normal((count, *tensor.shape[1:])).astype(np.float32)
    samples = open_samples({tensor.name: values})
    model = convert(path, samples, folder)
    return Context.of(model, prepare(model.graph).graph, validated(samples, [b.spec for b in model.inputs]), target)
