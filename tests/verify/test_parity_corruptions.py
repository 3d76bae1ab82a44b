"""The gate stops every corrupted graph and names the op that was corrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.errors import ParityError
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.verify.parity import check_parity
from tests.verify.helpers import as_source, image_samples, weights_changed

Images = Mapping[str, npt.NDArray[Any]]


def _one_weight(op: int) -> Callable[[Graph], tuple[Graph, int]]:
    def corrupt(graph: Graph) -> tuple[Graph, int]:
        def change(w: Array) -> Array:
            w.flat[w.size // 2] += 0.01 * np.abs(w).max()
            return w

        return weights_changed(graph, op, change), op

    return corrupt


def _kernel_transposed(graph: Graph) -> tuple[Graph, int]:
    return weights_changed(graph, 5, lambda w: w.transpose(0, 2, 1, 3)), 5


def _input_channels_swapped(graph: Graph) -> tuple[Graph, int]:
    return weights_changed(graph, 2, lambda w: w[..., ::-1]), 2


def _bias_dropped(graph: Graph) -> tuple[Graph, int]:
    return weights_changed(graph, 10, np.zeros_like, slot=2), 10


def _add_becomes_sub(graph: Graph) -> tuple[Graph, int]:
    return graph.with_ops({7: replace(graph.ops[7], kind="SUB")}), 7


def _activation_lost(graph: Graph) -> tuple[Graph, int]:
    return graph.with_ops({8: graph.ops[8].with_options(fusedActivationFunction="NONE")}), 8


def _dilated(graph: Graph) -> tuple[Graph, int]:
    return graph.with_ops({1: graph.ops[1].with_options(dilationHFactor=2)}), 1


def _other_pooling(graph: Graph) -> tuple[Graph, int]:
    return graph.with_ops({12: replace(graph.ops[12], kind="MAX_POOL_2D")}), 12


def _padded_on_one_side(graph: Graph) -> tuple[Graph, int]:
    """Convolution 9 with padding 0 before and 2 after instead of 1 and 1: strides hide it from the shapes."""
    editor, conv = Editor(graph), graph.ops[9]
    x = graph.tensors[conv.inputs[0]]
    n, h, w, c = x.shape
    pads = np.array([[0, 0], [0, 2], [0, 2], [0, 0]], np.int32)
    padded = editor.add_tensor(Tensor("padded", (n, h + 2, w + 2, c), "float32"))
    for i, op in enumerate(graph.ops):
        if i == 9:
            editor.add_op(
                Op("PAD", (conv.inputs[0], editor.add_tensor(Tensor("pads", (4, 2), "int32", pads))), (padded,))
            )
            op = replace(op, inputs=(padded, *op.inputs[1:])).with_options(padding="VALID")
        editor.add_op(op)
    return editor.finish(), 10


CORRUPTIONS = {
    "one weight of the first op": _one_weight(0),
    "one weight of a middle op": _one_weight(6),
    "one weight of the last linear op": _one_weight(14),
    "kernel transposed": _kernel_transposed,
    "input channels swapped": _input_channels_swapped,
    "bias dropped": _bias_dropped,
    "ADD becomes SUB": _add_becomes_sub,
    "activation lost": _activation_lost,
    "dilated": _dilated,
    "other pooling": _other_pooling,
    "padded on one side": _padded_on_one_side,
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_wrong_conversion_is_stopped_at_its_op(resnet: Graph, cifar10: Images, name: str) -> None:
    corrupted, op = CORRUPTIONS[name](resnet)
    tensor = corrupted.tensors[corrupted.ops[op].outputs[0]].name
    model = as_source(resnet, converted=corrupted, locations={tensor: "stage.block"}, log=Path("convert.log"))
    with pytest.raises(ParityError) as stopped:
        check_parity(model, corrupted, image_samples(resnet, cifar10["calibration_images"], 4))
    assert f"{corrupted.describe(op)} (in the source: stage.block) is the first op" in stopped.value.message
    assert "converted float model" in stopped.value.message
    assert "convert.log" in stopped.value.hint


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_wrong_rewrite_is_stopped_at_its_op(resnet: Graph, cifar10: Images, name: str) -> None:
    corrupted, op = CORRUPTIONS[name](resnet)
    with pytest.raises(ParityError) as stopped:
        check_parity(as_source(resnet, trace=False), corrupted, image_samples(resnet, cifar10["calibration_images"], 4))
    assert f"{corrupted.describe(op)} is the first op" in stopped.value.message
    assert "bug in edgeqwt" in stopped.value.hint
