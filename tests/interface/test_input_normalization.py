"""What normalizes pixels in the layers that read them: the same function, exactly at the borders, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.input_normalization import prepared
from edgeqwt.runtime.runners import reference
from edgeqwt.widths.ports import Port
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SIZE = 9


def model_of(graph: Graph) -> ConvertedModel:
    t = graph.inputs[0]
    spec = InputSpec(graph.tensors[t].name, graph.tensors[t].shape, "float32")
    return ConvertedModel(graph, (Binding(spec, t),), (), lambda sample: {})


def normalizing(chain: Chain, mean: Any, std: Any) -> int:
    """Pixels from 0 to 255, normalized."""
    x = chain.input((1, SIZE, SIZE, 3), "image")
    y = chain.op("MUL", x, chain.constant(1 / (255 * np.asarray(std, np.float64))), shape=(1, SIZE, SIZE, 3), **NONE)
    return chain.op("SUB", y, chain.constant(np.asarray(mean) / np.asarray(std)), shape=(1, SIZE, SIZE, 3), **NONE)


def folded(chain: Chain, *outputs: int) -> tuple[Graph, Graph]:
    graph = chain.graph(*outputs)
    return graph, prepared(model_of(graph), {"image": Port("uint8", (0.0, 255.0))}).graph


def assert_same(before: Graph, after: Graph) -> None:
    x = np.random.default_rng(3).integers(0, 256, before.tensors[before.inputs[0]].shape).astype(np.float32)
    old, new = (reference(g).run({g.inputs[0]: x}) for g in (before, after))
    for a, b in zip(before.outputs, after.outputs, strict=True):
        # Both round some hundred products of values below 255 / 58 and weights of size 1 in float32.
        assert np.abs(old[a] - new[b]).max() < 2e-4


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("mean", "std", "kinds"),
    [
        ([0.0], [1.0], ["CONV_2D"]),
        (*IMAGENET, ["PADV2", "CONV_2D"]),
        ([0.5], [0.5], ["PADV2", "CONV_2D"]),  # zero lies between two pixels
        ([128 / 255], [0.5], ["PADV2", "CONV_2D"]),  # zero is pixel 128
    ],
)
def test_a_convolution_that_pads(mean: Any, std: Any, kinds: list[str], stride: int) -> None:
    chain = Chain()
    x = normalizing(chain, mean, std)
    options = {**CONV, "strideH": stride, "strideW": stride}
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4)), **options)
    before, after = folded(chain, y)
    assert [op.kind for op in after.ops] == kinds
    assert_same(before, after)
    channels = after.tensors[after.ops[-1].inputs[1]].shape[-1]
    assert channels == (4 if mean in (IMAGENET[0], [0.5]) else 3)


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, ([128 / 255], [0.5])])
def test_a_pad_of_its_own(mean: Any, std: Any) -> None:
    chain = Chain()
    x = normalizing(chain, mean, std)
    shape = (1, SIZE + 2, SIZE + 2, 3)
    x = chain.op("PAD", x, chain.constant([[0, 0], [1, 1], [1, 1], [0, 0]]), shape=shape)
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4)),
                 **{**CONV, "padding": "VALID"})  # fmt: skip
    before, after = folded(chain, y)
    assert not {"MUL", "ADD", "SUB"} & {op.kind for op in after.ops}
    assert_same(before, after)


def test_layers_that_do_not_pad_take_the_shift_into_their_biases() -> None:
    chain = Chain()
    x = normalizing(chain, *IMAGENET)
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4)),
                 **{**CONV, "padding": "VALID"})  # fmt: skip
    z = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 3)), chain.constant(noise(3)),
                 **{**DEPTHWISE, "padding": "VALID"})  # fmt: skip
    before, after = folded(chain, y, z)
    assert [op.kind for op in after.ops] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert_same(before, after)


def test_slices_that_are_joined_before_the_first_convolution() -> None:
    chain = Chain()
    x = normalizing(chain, *IMAGENET)
    parts = [
        chain.op("SLICE", x, chain.constant([0, k, 0, 0]), chain.constant([1, 8, 8, 3]), shape=(1, 8, 8, 3))
        for k in (0, 1)
    ]
    joined = chain.op("CONCATENATION", *parts, shape=(1, 8, 8, 6), axis=3, **NONE)
    y = chain.op("CONV_2D", joined, chain.constant(noise(4, 3, 3, 6)), chain.constant(noise(4)), **CONV)
    before, after = folded(chain, y)
    assert [op.kind for op in after.ops] == ["SLICE", "SLICE", "CONCATENATION", "PADV2", "CONV_2D"]
    assert_same(before, after)


def test_what_no_layer_can_take_becomes_one_layer() -> None:
    chain = Chain()
    x = normalizing(chain, *IMAGENET)
    y = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 3)), chain.constant(noise(3)), **DEPTHWISE)
    before, after = folded(chain, y)
    assert [op.kind for op in after.ops] == ["DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D"]
    assert_same(before, after)


def test_an_input_of_its_own_scale_stays() -> None:
    chain = Chain()
    x = normalizing(chain, *IMAGENET)
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4)), **CONV)
    graph = chain.graph(y)
    assert [op.kind for op in prepared(model_of(graph), {}).graph.ops] == ["MUL", "SUB", "CONV_2D"]
