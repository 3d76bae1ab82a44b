"""The readers that mutants meet: each takes the bytes of a file, and raises only what edgeqwt raises on purpose."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeqwt.errors import EdgeqwtError, InvariantError

Reader = Callable[[bytes, Path], None]
PROFILE = b"""extends = "tflm"
title = "A board"
runtimes = ["reference", "tflm"]
notes = ["one", "two"]
package = "tflm"
[limits]
rank = 4
fixed_shapes = true
"""
RECIPE = b"""precision = "w8a8"
preserve = ["sparsity"]
techniques = ["mse_ranges", "cwac"]
[io]
float = false
[verify]
parity_samples = 16
[quality]
min_db = 10.0
"""


def tflite(data: bytes, folder: Path) -> None:
    """Reads, describes, and writes again what was accepted: what is read then must be the same."""
    from edgeqwt.graph import flatbuffer
    from edgeqwt.report.inspect import describe

    graph = flatbuffer.from_bytes(data)
    describe(graph, len(data))
    written = flatbuffer.to_bytes(graph)
    assert flatbuffer.to_bytes(flatbuffer.from_bytes(written)) == written


def onnx(data: bytes, folder: Path) -> None:
    """Loads the model and reads what it takes and gives."""
    from edgeqwt.converters.from_onnx import source as onnx_source

    path = folder / "mutant.onnx"
    path.write_bytes(data)
    model = onnx_source.load(path)
    onnx_source.input_specs(model)
    onnx_source.output_names(model)


def npz(data: bytes, folder: Path) -> None:
    """Reads every sample."""
    from edgeqwt.calibration.arrays import from_npz

    path = folder / "mutant.npz"
    path.write_bytes(data)
    for _ in from_npz(path):
        pass


def image(data: bytes, folder: Path) -> None:
    """Decodes the image, whatever kind its bytes say it is."""
    from edgeqwt.calibration.images import ImageOptions, read_image

    path = folder / "mutant.png"
    path.write_bytes(data)
    read_image(path, ImageOptions((8, 8)))


def recipe(data: bytes, folder: Path) -> None:
    """Loads a recipe."""
    from edgeqwt.recipe.recipe import load

    path = folder / "mutant.toml"
    path.write_bytes(data)
    load(str(path))


def profile(data: bytes, folder: Path) -> None:
    """Loads a target's profile."""
    from edgeqwt.target.load import load

    path = folder / "mutant.toml"
    path.write_bytes(data)
    load(str(path))


READERS: Mapping[str, Reader] = {
    "tflite": tflite, "onnx": onnx, "npz": npz, "image": image, "recipe": recipe, "profile": profile,
}  # fmt: skip


def fault(reader: Reader, data: bytes, folder: Path) -> str:
    """What a reader does that it must not do, in words; empty where it reads or refuses."""
    try:
        reader(data, folder)
    except InvariantError as error:
        return f"InvariantError: {error}"
    except EdgeqwtError as error:
        return "" if error.hint else f"no hint: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def good(kind: str, folder: Path) -> list[bytes]:
    """Small good files of a kind, made here."""
    if kind == "tflite":
        return good_models()
    if kind == "onnx":
        return [good_onnx()]
    if kind == "npz":
        return [good_npz()]
    if kind == "image":
        return good_images()
    return [RECIPE if kind == "recipe" else PROFILE]


def good_models() -> list[bytes]:
    """A float classifier, its int8 form, and random graphs."""
    from edgeqwt.graph import flatbuffer
    from tests import small
    from tests.graph.random_graphs import random_graph
    from tests.one_op import lowered

    graph = small.graph()
    integer = lowered(graph, [{graph.inputs[0]: image[None]} for image in small.images(4)]).graph
    random = [random_graph(np.random.default_rng(seed), ops=6) for seed in range(2)]
    return [flatbuffer.to_bytes(g) for g in (graph, integer, *random)]


def good_onnx() -> bytes:
    """Convolution, pooling, reshape and product."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "shape": np.array([1, -1], np.int64),
        "m": rng.normal(size=(64, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "m"], ["y"]),
    ]
    ends = helper.make_tensor_value_info("x", 1, ("n", 3, 8, 8)), helper.make_tensor_value_info("y", 1, (1, 5))
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [ends[0]], [ends[1]], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def good_npz() -> bytes:
    """Two inputs."""
    out = io.BytesIO()
    np.savez(out, x=np.ones((4, 8, 8, 3), np.float32), ids=np.arange(8, dtype=np.int64).reshape(4, 2))
    return out.getvalue()


def good_images() -> list[bytes]:
    """One of each kind that is taken."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    found = []
    for form, picture in (
        ("png", Image.fromarray(pixels)),
        ("png", Image.fromarray(pixels).quantize(16)),
        ("jpeg", Image.fromarray(pixels)),
        ("bmp", Image.fromarray(pixels[:, :, 0])),
        ("webp", Image.fromarray(pixels)),
    ):
        out = io.BytesIO()
        picture.save(out, form)
        found.append(out.getvalue())
    return found
