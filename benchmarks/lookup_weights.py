"""Flash and arena of MLPerf Tiny's networks with clustered weights behind TFLite Micro's lookup tables."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Array, shared

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.lowering.lookup_weights import with_lookup_tables
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.target.package.stripped import stripped

CLUSTERS, ROUNDS, SMALLEST = 16, 30, 500
NETWORKS = {"image_classification": 255.0, "visual_wake_words": 1.0}  # and the largest value of a pixel


def clustered(weights: Array) -> Array:
    """Weights as the nearest of 16 values, by Lloyd's iterations from quantiles; 0 stays one of them."""
    values = weights.reshape(-1).astype(np.float64)
    centres = np.quantile(values, (np.arange(CLUSTERS) + 0.5) / CLUSTERS)
    zero = int(np.abs(centres).argmin())
    for _ in range(ROUNDS):
        nearest = np.abs(values[:, None] - centres).argmin(1)
        means = [values[nearest == k].mean() if (nearest == k).any() else centres[k] for k in range(CLUSTERS)]
        centres = np.array(means)
        centres[zero] = 0.0
    found: Array = centres[np.abs(values[:, None] - centres).argmin(1)].reshape(weights.shape).astype(np.float32)
    return found


def with_clusters(graph: Graph) -> Graph:
    """The float graph with the weights of its larger layers clustered."""
    changes = {}
    for t in (slots(op).weight for op in graph.ops if has_constant_weights(graph, op)):
        data = graph.tensors[t].data
        if data is not None and data.size > SMALLEST:
            changes[t] = replace(graph.tensors[t], data=clustered(data))
    return graph.with_tensors(changes)


def main() -> None:
    """Prints a row for each network, as it is and clustered."""
    print(f"{'network':34} {'flash':>9} {'lookup':>9} {'weights':>8} {'arena':>8} {'lookup':>8}")
    for name, largest in NETWORKS.items():
        graph = flatbuffer.read(shared() / "models" / "mlperf_tiny" / f"{name}_float32.tflite")
        tensor = graph.tensors[graph.inputs[0]]
        images = np.random.default_rng(0).uniform(0, largest, (32, *tensor.shape[1:])).astype(np.float32)
        for title, source in ((name, graph), (f"{name}, clustered", with_clusters(graph))):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "float.tflite"
                flatbuffer.write(source, path)
                built = edgeqwt.build(
                    path, calibration={tensor.name: images}, target="tflm", recipe="fast", accept=True
                )
            device = stripped(built.graph)
            packed, count = with_lookup_tables(device)
            sizes = [flatbuffer.to_bytes(found) for found in (device, packed)]
            arenas = [measure_arena(content).bytes for content in sizes]
            print(f"{title:34} {len(sizes[0]):9} {len(sizes[1]):9} {count:8} {arenas[0]:8} {arenas[1]:8}")


if __name__ == "__main__":
    main()
