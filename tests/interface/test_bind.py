"""Types by name and pixels, through a whole build of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.interface.bind import bound
from edgeqwt.interface.options import Interface, Pixels
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.ports import Port
from tests.chain import CONV, NONE, Chain, noise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(cast: bool = False) -> Graph:
    """A convolution that pads and a dense layer; of normalized pixels, or of uint8 that it casts and normalizes."""
    chain = Chain()
    x = chain.input((1, 8, 8, 3), "image", "uint8" if cast else "float32")
    if cast:
        x = chain.op("CAST", x, shape=(1, 8, 8, 3), inDataType="UINT8", outDataType="FLOAT32")
        x = chain.op("MUL", x, chain.constant([1 / 127.5]), shape=(1, 8, 8, 3), **NONE)
        x = chain.op("SUB", x, chain.constant([1.0]), shape=(1, 8, 8, 3), **NONE)
    options = {**CONV, "fusedActivationFunction": "RELU"}
    y = chain.op("CONV_2D", x, chain.constant(noise(8, 3, 3, 3)), chain.constant(noise(8)), **options)
    y = chain.op("MEAN", y, chain.constant([1, 2]), shape=(1, 8), keepDims=False)
    y = chain.op("FULLY_CONNECTED", y, chain.constant(noise(4, 8)), chain.constant(noise(4)), shape=(1, 4),
                 name="scores", weightsFormat="DEFAULT", keepNumDims=False, **NONE)  # fmt: skip
    return chain.graph(y)


def pixels(count: int = 24) -> Array:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (count, 2, 2, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (coarse + rng.integers(-20, 20, (count, 8, 8, 3))).clip(0, 255).astype(np.uint8)


def build(folder: Path, interface: Interface | None, arrays: Array, cast: bool = False) -> edgeqwt.api.BuildResult:
    flatbuffer.write(network(cast), folder / "net.tflite")
    np.savez(folder / "samples.npz", image=arrays)
    return edgeqwt.build(folder / "net.tflite", calibration=folder / "samples.npz", recipe="fast", interface=interface)


def normalized(image: Array) -> Array:
    return ((image / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_the_integers_are_the_pixels(tmp_path: Path, kind: str) -> None:
    result = build(tmp_path, Interface({"image": kind}, pixels={"": Pixels(MEAN, STD)}), normalized(pixels()))
    tensor = result.graph.tensors[result.graph.inputs[0]]
    assert tensor.dtype == kind
    assert tensor.quantization is not None
    shift = 0 if kind == "uint8" else 128
    assert (float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])) == (1.0, -shift)
    image = pixels()[3:4]
    wanted = RUNNERS["reference"](network()).run({network().inputs[0]: normalized(image)})[network().outputs[0]]
    fed = (image.astype(np.int16) - shift).astype(kind)
    for name in ("reference", "tflm"):
        found = RUNNERS[name](result.graph).run({result.graph.inputs[0]: fed})[result.graph.outputs[0]]
        q = result.graph.tensors[result.graph.outputs[0]].quantization
        assert q is not None
        real = float(q.scale[0]) * (found.astype(int) - int(q.zero_point[0]))
        # Weights and two maps of 8 bits: about one step each at the output.
        assert np.abs(real - wanted).max() < 4 * float(q.scale[0])


def test_samples_may_be_the_pixels_themselves(tmp_path: Path) -> None:
    a = build(tmp_path, Interface(pixels={"": Pixels(MEAN, STD)}), pixels())
    b = build(tmp_path, Interface(pixels={"": Pixels(MEAN, STD)}), normalized(pixels()))
    assert flatbuffer.to_bytes(a.graph) == flatbuffer.to_bytes(b.graph)


def test_bytes_that_the_model_casts_go_in_as_they_are(tmp_path: Path) -> None:
    result = build(tmp_path, None, pixels(), cast=True)
    tensor = result.graph.tensors[result.graph.inputs[0]]
    assert (tensor.dtype, [op.kind for op in result.graph.ops][:3]) == ("uint8", ["QUANTIZE", "PADV2", "CONV_2D"])


def test_bytes_that_are_moved_before_they_are_cast_go_in_as_they_are() -> None:
    chain = Chain()
    image = chain.input((1, 8, 8, 3), "image", "uint8")
    x = chain.op("TRANSPOSE", image, chain.constant(np.array([0, 3, 1, 2], np.int32)), shape=(1, 3, 8, 8))
    x = chain.op("CAST", x, shape=(1, 3, 8, 8), inDataType="UINT8", outDataType="FLOAT32")
    graph = chain.graph(chain.op("MUL", x, chain.constant([1 / 255]), shape=(1, 3, 8, 8), **NONE))
    ends = [(graph.inputs, (1, 8, 8, 3), "uint8"), (graph.outputs, (1, 3, 8, 8), "float32")]
    inputs, outputs = (
        tuple(Binding(InputSpec(graph.tensors[t].name, shape, dtype), t) for t in tensors)
        for tensors, shape, dtype in ends
    )
    model = ConvertedModel(graph, inputs, outputs, lambda sample: {})
    found = bound(model, from_arrays({"image": pixels()}), Interface())
    assert [op.kind for op in found.model.graph.ops] == ["TRANSPOSE", "MUL"]
    assert {found.model.graph.tensors[t].dtype for op in found.model.graph.ops for t in op.inputs} == {
        "float32", "int32",
    }  # fmt: skip
    assert found.ports["image"] == Port("uint8", (0.0, 255.0))


def test_usual_pixels_are_recognized(tmp_path: Path) -> None:
    result = build(tmp_path, Interface({"": "uint8"}), normalized(pixels()))
    tensor = result.graph.tensors[result.graph.inputs[0]]
    assert tensor.quantization is not None
    assert float(tensor.quantization.scale[0]) == 1.0
    assert any("ImageNet" in note for note in result.model.notes)


def test_types_by_name(tmp_path: Path) -> None:
    result = build(tmp_path, Interface({"image": "float"}, {"": "uint8"}), normalized(pixels()))
    graph = result.graph
    assert [graph.tensors[t].dtype for t in (*graph.inputs, *graph.outputs)] == ["float32", "uint8"]
    wide = build(tmp_path, Interface({"image": "int16"}, {"": "int16"}), normalized(pixels())).graph
    assert [wide.tensors[t].dtype for t in (*wide.inputs, *wide.outputs)] == ["int16", "int16"]


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        (Interface({"picture": "uint8"}), "no input 'picture'"),
        (Interface(pixels={"": Pixels((0.0, 0.0), (1.0,))}), "no axis of 2 channels"),
        (Interface(pixels={"": Pixels(scale=1.0)}), ""),
        (Interface(pixels={"": Pixels((0.0,), (0.1,))}), "is no image by these pixels"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, interface: Interface, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(tmp_path, interface, normalized(pixels()))
    assert message in caught.value.message


def sensors(scaled: bool) -> Graph:
    """A dense layer to which columns of other magnitudes matter alike."""
    chain = Chain()
    x = chain.input((1, 4), "values")
    weights = noise(3, 4) / (np.array(MAGNITUDES) if scaled else 1)
    y = chain.op("FULLY_CONNECTED", x, chain.constant(weights), chain.constant(noise(3)), shape=(1, 3), name="y",
                 weightsFormat="DEFAULT", keepNumDims=False, **NONE)  # fmt: skip
    return chain.graph(y)


MAGNITUDES = (1.0, 1e4, 3.0, 5e3)


def test_columns_are_standardized_by_the_application(tmp_path: Path) -> None:
    flatbuffer.write(sensors(True), tmp_path / "net.tflite")
    values = (noise(32, 4) + 0.5) * np.array(MAGNITUDES, np.float32)
    np.savez(tmp_path / "samples.npz", values=values.astype(np.float32))
    call = {"calibration": tmp_path / "samples.npz", "recipe": "fast"}
    plain = edgeqwt.build(tmp_path / "net.tflite", accept=True, **call)
    assert any("--standardize values" in warning for warning in plain.warnings)
    asked = Interface(standardize=("values",))
    made = edgeqwt.build(tmp_path / "net.tflite", interface=asked, output=tmp_path / "out", **call)
    assert not any("--standardize" in warning for warning in made.warnings)
    db = [result.quality[result.choice.name].worst_db for result in (plain, made)]
    assert db[0] < 10 < 30 < db[1]
    # A program that does what io.json says.
    (port,) = json.loads((tmp_path / "out" / "package" / "io.json").read_text())["inputs"]
    factor, shift = (np.array(port["source"][key], np.float32) for key in ("factor", "shift"))
    np.testing.assert_allclose(factor.ravel(), values.std(axis=0), rtol=1e-4)
    graph = flatbuffer.read(tmp_path / "out" / "model.tflite")
    runner, source = RUNNERS["reference"](graph), RUNNERS["reference"](sensors(True))
    errors = []
    for row in values:
        real = (row[None] - shift) / factor
        integers = np.clip(np.round(real / np.float32(port["scale"])) + port["zero_point"], -128, 127).astype(np.int8)
        out = runner.run({graph.inputs[0]: integers})[graph.outputs[0]]
        q = graph.tensors[graph.outputs[0]].quantization
        assert q is not None
        wanted = next(iter(source.run({0: row[None]}).values()))
        errors.append(np.abs((out - q.zero_point) * q.scale - wanted).max() / q.scale[0])
    assert max(errors) < 4  # steps: of the input by up to three weights of a few steps, and half a step of its own


def station() -> Graph:
    """Quantities of other magnitudes over time, channels first, which the model normalizes and turns itself."""
    chain, none = Chain(), dict(NONE)
    x = chain.input((1, 4, 6), "values")
    mean, scale = (np.array(v, np.float32)[:, None] for v in (MAGNITUDES, 1 / np.array(MAGNITUDES)))
    x = chain.op("SUB", x, chain.constant(0.5 * mean), shape=(1, 4, 6), **none)
    x = chain.op("MUL", x, chain.constant(scale), shape=(1, 4, 6), **none)
    x = chain.op("TRANSPOSE", x, chain.constant([0, 2, 1]), shape=(1, 6, 4))
    x = chain.op("SOFTMAX", x, shape=(1, 6, 4), beta=1.0)  # which no layer's weights pass
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 4)), chain.constant(noise(3)), shape=(1, 6, 3), name="y",
                 weightsFormat="DEFAULT", keepNumDims=True, **none)  # fmt: skip
    return chain.graph(y)


def test_a_model_that_normalizes_columns_itself_gets_them_standardized_once(tmp_path: Path) -> None:
    """Else integers in one scale for all would stand between the application's part and the model's."""
    flatbuffer.write(station(), tmp_path / "net.tflite")
    values = ((noise(32, 4, 6) + 0.5) * np.array(MAGNITUDES)[:, None]).astype(np.float32)
    np.savez(tmp_path / "samples.npz", values=values)
    call = {"calibration": tmp_path / "samples.npz", "recipe": "fast", "accept": True}
    plain = edgeqwt.build(tmp_path / "net.tflite", **call)
    asked = Interface(standardize=("values",))
    made = edgeqwt.build(tmp_path / "net.tflite", interface=asked, output=tmp_path / "out", **call)
    assert [op.kind for op in made.graph.ops] == ["MUL", "ADD", "TRANSPOSE", "SOFTMAX", "FULLY_CONNECTED"]
    db = [result.quality[result.choice.name].worst_db for result in (plain, made)]
    assert db[0] < 10 < 30 < db[1]
    (port,) = json.loads((tmp_path / "out" / "package" / "io.json").read_text())["inputs"]
    assert port["source"]["axis"] == 1
    np.testing.assert_allclose(port["source"]["shift"], values.mean(axis=(0, 2)), rtol=1e-4)
