"""Int8 files of other tools: MLPerf's own, and the layouts that tools give their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.compensation.solve import Options
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization
from edgeqwt.graph.linear import linear_ops
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import RUNNERS, xnnpack
from tests.compensation.nets import Case, check_linear_ops, made, outputs, plain_net, sqnr

# -- layouts -------------------------------------------------------------------------------


def float_borders(graph: Graph) -> Graph:
    """Float input and output, with QUANTIZE and DEQUANTIZE inside, as converters write by default."""
    editor = Editor(graph)
    x, y = graph.inputs[0], graph.outputs[0]
    real_x, real_y = (
        editor.add_tensor(replace(graph.tensors[t], name=name, dtype="float32", quantization=None))
        for t, name in ((x, "float_input"), (y, "float_output"))
    )
    editor.add_op(Op("QUANTIZE", (real_x,), (x,)))
    for op in graph.ops:
        editor.add_op(op)
    editor.add_op(Op("DEQUANTIZE", (y,), (real_y,), version=2))
    return editor.finish(inputs=[real_x], outputs=[real_y])


def uint8_borders(graph: Graph) -> Graph:
    """uint8 input and output: integers 128 larger at the same scale, converted by QUANTIZE."""
    editor = Editor(graph)
    x, y = graph.inputs[0], graph.outputs[0]
    new = []
    for t, name in ((x, "uint8_input"), (y, "uint8_output")):
        q = graph.tensors[t].quantization
        assert q is not None
        moved = Quantization.per_tensor(float(q.scale[0]), int(q.zero_point[0]) + 128)
        new.append(editor.add_tensor(replace(graph.tensors[t], name=name, dtype="uint8", quantization=moved)))
    editor.add_op(Op("QUANTIZE", (new[0],), (x,)))
    for op in graph.ops:
        editor.add_op(op)
    editor.add_op(Op("QUANTIZE", (y,), (new[1],)))
    return editor.finish(inputs=[new[0]], outputs=[new[1]])


def requantized_inside(graph: Graph) -> Graph:
    """A QUANTIZE from int8 to int8 between two layers, as tools write that quantize op by op."""
    editor, i = Editor(graph), 1
    x = graph.ops[i].inputs[0]
    copy = editor.add_tensor(replace(graph.tensors[x], name="copy"))
    for k, op in enumerate(graph.ops):
        if k == i:
            editor.add_op(Op("QUANTIZE", (x,), (copy,)))
            op = replace(op, inputs=(copy, *op.inputs[1:]))
        editor.add_op(op)
    return editor.finish()


@pytest.fixture(scope="module")
def case() -> Case:
    return made(plain_net(), count=48, bits=3)


LAYOUTS = {"float-borders": float_borders, "uint8-borders": uint8_borders, "requantized-inside": requantized_inside}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_compensated_alike(case: Case, layout: str) -> None:
    """QUANTIZE ops around the same integer ops change none of their integers, so neither the corrections.

    XNNPACK's QUANTIZE multiplies by 1 / scale in float32, so an input beside a tie may go the other way.
    """
    plain = case.compensated()
    graph = LAYOUTS[layout](case.integer)
    outcome = case.compensated(graph=graph)
    for ours, wanted in zip(outcome.changes, plain.changes, strict=True):
        assert (ours.name, ours.channels) == (wanted.name, wanted.channels)
        assert abs(ours.with_gain - wanted.with_gain) <= 1
        assert ours.error_after == pytest.approx(wanted.error_after, abs=0.1)
    assert len(flatbuffer.to_bytes(outcome.graph)) == len(flatbuffer.to_bytes(graph))
    for runner in RUNNERS.values():
        runner(outcome.graph)
    check_linear_ops(outcome.graph, case.samples)
    wanted_output = outputs(case.floating, case.samples)
    before, after = (sqnr(wanted_output, outputs(g, case.samples)) for g in (graph, outcome.graph))
    assert after > before + 1


def test_layout_of_names_and_order(case: Case) -> None:
    graph = replace(case.integer, tensors=tuple(replace(t, name="same") for t in case.integer.tensors))
    outcome, plain = case.compensated(graph=graph), case.compensated()
    assert [replace(c, name="") for c in outcome.changes] == [replace(c, name="") for c in plain.changes]


# -- MLPerf Tiny's own int8 files ---------------------------------------------------------------


def official(folder: Path, name: str, images: Array) -> Case:
    floating = flatbuffer.read(folder / f"{name}_float32.tflite")
    integer = flatbuffer.read(folder / f"{name}_int8.tflite")
    samples = [{floating.inputs[0]: image[None].astype(np.float32)} for image in images]
    statistics, _ = observe(floating, samples)
    return Case(floating, samples, statistics, integer)


def predicted(graph: Graph, images: Array) -> Array:
    """The outputs for some images, (images, classes); by XNNPACK, on all cores."""

    def work(runner: Any, image: Array) -> Array:
        feed = graph_feed(graph, {graph.inputs[0]: image[None].astype(np.float32)})
        return to_real(graph, graph.outputs[0], runner.run(feed)[graph.outputs[0]])[0]

    return np.stack(list(ordered([xnnpack(graph) for _ in range(THREADS)], work, images)))


def assert_never_worse(case: Case, images: Array, options: Options) -> None:
    wanted = predicted(case.floating, images)
    before = predicted(case.integer, images)
    outcome = case.compensated(options)
    after = predicted(outcome.graph, images)
    agreement = [(p.argmax(1) == wanted.argmax(1)).mean() for p in (before, after)]
    assert sqnr(wanted, after) >= sqnr(wanted, before)
    # Predictions between whose two best classes the float model cannot decide go either way.
    best = np.sort(wanted, axis=1)
    undecided = (best[:, -1] - best[:, -2] < 0.05).mean()
    assert agreement[1] >= agreement[0] - undecided
    check_linear_ops(outcome.graph, case.samples)
    assert len(flatbuffer.to_bytes(outcome.graph)) == len(flatbuffer.to_bytes(case.integer))
    for runner in RUNNERS.values():
        runner(outcome.graph)


CHOICES = [Options(), Options(gain=False), Options(rewrite_scales=False), Options(gain=False, rewrite_scales=False)]


@pytest.mark.parametrize("options", CHOICES, ids=lambda o: f"gain={o.gain}-scales={o.rewrite_scales}")
def test_image_classification_is_never_worse(
    mlperf_tiny: Path, cifar10: Mapping[str, npt.NDArray[Any]], options: Options
) -> None:
    case = official(mlperf_tiny, "image_classification", cifar10["calibration_images"][:128])
    assert_never_worse(case, cifar10["test_images"][:1000], options)


@pytest.fixture(scope="module")
def small_photos(photos: tuple[Path, ...]) -> Array:
    from PIL import Image

    return np.stack([np.asarray(Image.open(p).convert("RGB").resize((96, 96)), np.float32) / 255 for p in photos])


@pytest.mark.parametrize("options", CHOICES, ids=lambda o: f"gain={o.gain}-scales={o.rewrite_scales}")
@pytest.mark.parametrize("half", [0, 1])
def test_visual_wake_words_is_never_worse(mlperf_tiny: Path, small_photos: Array, half: int, options: Options) -> None:
    """Without rewriting scales, the file saturates on a few photographs, which must not decide for all others."""
    case = official(mlperf_tiny, "visual_wake_words", small_photos[half::2])
    assert_never_worse(case, small_photos[1 - half :: 2], options)


def test_keyword_spotting(mlperf_tiny: Path) -> None:
    """No real features here: the structure is what is tested, on noise with the input's range.

    The file that is called float has int8 weights on float activations in its ordinary convolutions.
    """
    integer = flatbuffer.read(mlperf_tiny / "keyword_spotting_int8.tflite")
    q = integer.tensors[integer.inputs[0]].quantization
    assert q is not None
    rng = np.random.default_rng(0)
    noise = rng.uniform(-128 - q.zero_point[0], 127 - q.zero_point[0], (96, 49, 10, 1)) * q.scale[0]
    case = official(mlperf_tiny, "keyword_spotting", noise[:64])
    outcome = case.compensated()
    assert [change.op for change in outcome.changes] == linear_ops(integer)
    wanted = predicted(case.floating, noise[64:])
    before, after = (sqnr(wanted, predicted(g, noise[64:])) for g in (integer, outcome.graph))
    assert after > before
    check_linear_ops(outcome.graph, case.samples)
    assert len(flatbuffer.to_bytes(outcome.graph)) == len(flatbuffer.to_bytes(integer))
