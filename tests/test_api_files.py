"""Files side by side: which is which, and shapes that a file leaves open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converters.convert import convert
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.misread import MISREAD, read_rightly
from edgeqwt.scales.ranges import MinMax
from edgeqwt.verify.parity import check_parity
from tests import small
from tests.chain import CONV, NONE, Chain, noise
from tests.small import Command, images


def integer(graph: Graph, samples: Array) -> Graph:
    """The int8 form of a graph with one input; all of `samples` are seen."""
    prepared = prepare(graph).graph
    shape = prepared.tensors[prepared.inputs[0]].shape
    statistics, _ = observe(prepared, [{prepared.inputs[0]: x.reshape(shape)} for x in samples])
    return lower(prepared, statistics, MinMax(), Precision())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float file, the integer one that was made of it, and samples."""
    folder = tmp_path_factory.mktemp("files")
    flatbuffer.write(small.graph(), folder / "float.tflite")
    flatbuffer.write(integer(small.graph(), images(16)), folder / "int8.tflite")
    np.savez(folder / "ok.npz", image=images(16))
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("model", "reference", "said"),
    [
        ("float", "int8", "they are swapped"),
        ("float", "float", "there is nothing to compensate"),
        ("int8", "int8", "the reference"),
    ],
)
def test_which_file_is_which_in_compensate(
    files: Path, command: Command, model: str, reference: str, said: str
) -> None:
    named = [files / f"{name}.tflite" for name in (model, reference)]
    message = command.refused(
        2, "compensate", named[0], "--reference", named[1], "-c", files / "ok.npz", "-o", "out.tflite"
    )
    assert said in message
    if said.endswith("swapped"):
        assert f"edgeqwt compensate {named[1]} --reference {named[0]}" in message


def test_a_reference_that_is_not_there(files: Path, command: Command) -> None:
    (command.folder / "out.tflite").write_bytes(b"older")
    call = ["compensate", files / "int8.tflite", "--reference", "no.tflite", "-c", files / "ok.npz", "-o", "out.tflite"]
    assert "no.tflite does not exist" in command.refused(2, *call)


def test_which_file_is_which_in_compare(files: Path) -> None:
    a, b = files / "float.tflite", files / "int8.tflite"
    assert edgeqwt.compare(a, b, calibration=files / "ok.npz", samples=2).notes == ()
    (note,) = edgeqwt.compare(b, a, calibration=files / "ok.npz", samples=2).notes
    assert "swapped" in note


def test_samples_given_as_the_model(files: Path, command: Command) -> None:
    message = command.refused(2, "build", files / "ok.npz", "-c", files / "ok.npz", "-o", "out")
    assert "holds data, not a model" in message
    assert f"--calibration {files / 'ok.npz'}" in message


def open_rows() -> Graph:
    """A layer on five rows."""
    chain = Chain()
    x = chain.op("TANH", chain.input((1, 5, 6), "x"), shape=(1, 5, 6))
    weights, bias = chain.constant(noise(4, 6)), chain.constant(noise(4))
    return chain.graph(
        chain.op("FULLY_CONNECTED", x, weights, bias, name="y", shape=(1, 5, 4), keepNumDims=True, **NONE)
    )


def opened(graph: Graph) -> Graph:
    """The graph with the number of rows open, which is stored as 1."""
    shapes = {t: tensor.shape[2:] for t, tensor in enumerate(graph.tensors) if tensor.data is None}
    return graph.with_tensors(
        {t: replace(graph.tensors[t], shape=(1, 1, *s), shape_signature=(1, -1, *s)) for t, s in shapes.items()}
    )


def test_open_shapes_are_those_of_the_samples(tmp_path: Path) -> None:
    samples = {"x": noise(4, 5, 6)}
    made = integer(open_rows(), samples["x"])
    for name, found in (("float", opened(open_rows())), ("int8", opened(made))):
        flatbuffer.write(found, tmp_path / f"{name}.tflite")
    paths = [tmp_path / "float.tflite", tmp_path / "int8.tflite"]
    compared = edgeqwt.compare(*paths, calibration=samples)
    assert compared.outputs[0].closeness.sqnr_db > 25
    assert edgeqwt.evaluate(paths, data=samples).samples == 4


TORCH = """
import torch

def create():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
"""


@pytest.mark.requires("torch")
def test_a_reference_from_its_source(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(TORCH)
    source, samples = f"{tmp_path}/net.py:create", {"input": noise(16, 6)}
    edgeqwt.build(source, calibration=samples, recipe="plain", output=tmp_path / "out")
    found = edgeqwt.compensate(tmp_path / "out" / "model.tflite", source, calibration=samples, recipe="fast")
    assert found.warnings == ()
    with pytest.raises(InputError, match="has no function 'other'"):
        edgeqwt.compensate(
            tmp_path / "out" / "model.tflite", f"{tmp_path}/net.py:other", calibration=samples, recipe="fast"
        )


def test_what_xnnpack_computes_wrongly_is_said_and_not_compensated(tmp_path: Path) -> None:
    chain = Chain()
    x = chain.input((1, 6, 5, 2), "image")
    options = {**CONV, "padding": "SAME", "strideH": 2, "strideW": 2}
    y = chain.op(
        "CONV_2D", x, chain.constant(noise(3, 1, 3, 2)), chain.constant(noise(3)), shape=(1, 3, 3, 3), **options
    )
    graph, data = chain.graph(y), noise(8, 1, 6, 5, 2, seed=3)
    meant = read_rightly(graph)[0]
    statistics, _ = observe(meant, [{x: sample} for sample in data])
    good = lower(meant, statistics, MinMax(), Precision())
    bad = lower(graph, {t: statistics[t] for t in (x, y)}, MinMax(), Precision())
    files = {name: tmp_path / f"{name}.tflite" for name in ("float", "good", "bad")}
    for path, written in zip(files.values(), (graph, good, bad), strict=True):
        flatbuffer.write(written, path)
    samples = {"image": data[:, 0]}
    found = edgeqwt.compare(files["float"], files["good"], calibration=samples)
    assert found.outputs[0].closeness.sqnr_db > 30  # 8 bits
    assert "run as it is meant" in found.notes[0]
    scores = edgeqwt.evaluate([files["float"], files["bad"]], data=samples)
    assert scores.files[1].outputs[0].sqnr_db < 3
    assert ["bad.tflite wrongly" in note for note in scores.notes] == [False, True]
    with pytest.raises(InputError, match="XNNPACK, as phones have it, computes CONV_2D #0"):
        edgeqwt.compensate(files["bad"], files["float"], calibration=samples)
    converted = convert(str(files["float"]), open_samples(samples), tmp_path)
    assert check_parity(converted, prepare(converted.graph).graph, open_samples(samples)).samples == 8
    assert converted.notes == (f"{MISREAD}: 'conv_2d0'.",)
