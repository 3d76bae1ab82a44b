from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.errors import UnsupportedError
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.target.package.vectors import RANDOM_VECTORS, make_vectors
from tests import small
from tests.chain import Chain
from tests.targets.package import common


@pytest.mark.parametrize("runtime", ["reference", "xnnpack", "tflm"])
def test_real_samples_are_quantized_and_run(runtime: str) -> None:
    made = common.made()
    graph = made.graph
    feeds = [{graph.inputs[0]: image[None]} for image in small.images(4)]
    vectors = make_vectors(graph, runtime, feeds)
    expected = made.run(RUNNERS[runtime])
    assert len(vectors.items) == 4
    assert not vectors.random
    for vector, feed, outputs in zip(vectors.items, made.inputs, expected, strict=True):
        np.testing.assert_array_equal(vector.inputs[0], feed[graph.inputs[0]])
        np.testing.assert_array_equal(vector.outputs[0], outputs[0])
    # Else every device would pass.
    assert len({vector.outputs[0].tobytes() for vector in vectors.items}) > 1


def test_without_samples_there_are_random_integers_always_the_same() -> None:
    first, second = (make_vectors(common.int8(), "tflm") for _ in range(2))
    assert first.random
    assert len(first.items) == RANDOM_VECTORS
    for a, b in zip(first.items, second.items, strict=True):
        np.testing.assert_array_equal(a.inputs[0], b.inputs[0])
        np.testing.assert_array_equal(a.outputs[0], b.outputs[0])
    values = np.concatenate([v.inputs[0].ravel() for v in first.items])
    assert (values.min(), values.max()) == (-128, 127)  # 768 of them: each value is missed with exp(-3)


def test_float_inputs() -> None:
    vectors = make_vectors(common.float_borders(), "tflm")
    assert vectors.items[0].inputs[0].dtype == np.float32
    assert vectors.items[0].outputs[0].dtype == np.float32


def test_token_ids_are_not_made_up() -> None:
    chain = Chain()
    x = chain.input((1, 4), "ids", "int32")
    graph = chain.graph(chain.op("RESHAPE", x, chain.constant(np.array([4])), dtype="int32"))
    with pytest.raises(UnsupportedError, match=r"'ids' of type int32 .* test vectors cannot be made up"):
        make_vectors(graph, "tflm")
