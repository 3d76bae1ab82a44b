"""Small integer models for the tests of packages, and targets for them."""

from __future__ import annotations

from functools import cache

from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.borders import with_borders
from edgeqwt.lowering.int4 import with_packed_weights
from edgeqwt.lowering.lower import Precision
from edgeqwt.profile import Npu, TargetProfile
from tests import small
from tests.one_op import Lowered, lowered

TFLITE = TargetProfile("tflite", "LiteRT", ("reference", "xnnpack"))
TFLM = TargetProfile("tflm", "TFLite Micro", ("reference", "tflm"), package="tflm")
ETHOS = TargetProfile(
    "ethos-u55-128",
    "Ethos-U55",
    ("reference", "tflm"),
    package="ethos-u",
    npu=Npu("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
)


@cache
def made(weights: int = 8) -> Lowered:
    """Convolution, mean, dense layer, softmax with int8 activations, and 4 images."""
    graph = small.graph()
    samples = [{graph.inputs[0]: image[None]} for image in small.images(4)]
    return lowered(graph, samples, precision=Precision(weights))


def int8() -> Graph:
    """The small model."""
    return made().graph


def int4() -> Graph:
    """The same with the convolution's weights stored in 4 bits."""
    return with_packed_weights(made(4).graph)


def float_borders() -> Graph:
    """The same with float inputs and outputs."""
    return with_borders(int8(), {}, float_io=True)
