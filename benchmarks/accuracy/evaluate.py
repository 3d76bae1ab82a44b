"""Test logits of a .tflite file, in the project's environment: all files in the same LiteRT.

python -m accuracy.evaluate FILE.tflite INPUTS LOGITS.npy
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Array, outputs

from accuracy.peers.work import TEST, arrays, channels_last
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import reference

UNPACKED_CHECK = 200  # images


def logits(graph: Graph, images: Sequence[Array]) -> Array:
    """Outputs for images (1, 32, 32, 3), from LiteRT with XNNPACK.

    LiteRT unpacks int4 convolution weights at every run, which takes many times longer. Where the file and the
    same integers in int8 give identical outputs on the first images in the reference kernels, which share their
    arithmetic between the two, the latter stand in on all of them.
    """
    plain = unpacked(graph)
    if plain is not graph:
        first = images[:UNPACKED_CHECK]
        same = np.array_equal(reference_outputs(graph, first), reference_outputs(plain, first))
        print(f"int4 and the same integers in int8, {len(first)} images: {'identical' if same else 'different'}")
        return outputs(plain if same else graph, images)
    return outputs(graph, images)


def reference_outputs(graph: Graph, images: Sequence[Array]) -> Array:
    """Outputs from LiteRT's reference kernels."""
    (tensor,), out, runner = graph.inputs, graph.outputs[0], reference(graph)
    return np.concatenate([runner.run(graph_feed(graph, {tensor: image}))[out] for image in images])


def unpacked(graph: Graph) -> Graph:
    """The same graph with int4 constants stored as int8; the graph itself where it has none."""
    packed = {t: replace(tensor, dtype="int8") for t, tensor in enumerate(graph.tensors) if tensor.dtype == "int4"}
    return graph.with_tensors(packed) if packed else graph


def main() -> None:
    """Writes the logits."""
    file, inputs, output = (Path(argument) for argument in sys.argv[1:])
    (test,) = arrays(inputs / TEST).values()
    images = [channels_last(image[None]) for image in test]
    np.save(output, logits(flatbuffer.read(file), images))


if __name__ == "__main__":
    main()
