"""Fourier transforms of lines: what LiteRT's kernels compute, in ops on real numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.prepare.spectra import transforms
from edgeqwt.runtime.runners import xnnpack
from tests.chain import Chain, noise

FRAMES, WIDTH = 5, 24


def spectrum(kind: str, length: int, move: str = "") -> Graph:
    """Windows, their transforms, and a reader of them."""
    chain = Chain()
    x = chain.input((FRAMES, 1, WIDTH), "x")
    bins = length // 2 + 1
    found = chain.op(
        "RFFT2D", x, chain.constant([1, length]), dtype="complex64", shape=(FRAMES, 1, bins), name="transform"
    )
    shape: tuple[int, ...] = (FRAMES, 1, bins)
    if move == "SQUEEZE":
        shape = (FRAMES, bins)
        found = chain.op("SQUEEZE", found, dtype="complex64", shape=shape, squeezeDims=(1,))
    if move == "RESHAPE":
        shape = (1, FRAMES, bins, 1)
        found = chain.op("RESHAPE", found, chain.constant(list(shape)), dtype="complex64", shape=shape, newShape=shape)
    types = {"inDataType": "COMPLEX64", "outDataType": "FLOAT32"} if kind == "CAST" else {}
    return chain.graph(chain.op(kind, found, shape=shape, name="y", **types))


def run(graph: Graph, x: Array) -> Array:
    return xnnpack(graph).run({graph.inputs[0]: x})[graph.outputs[0]]


@pytest.mark.parametrize("length", [16, 32])  # TensorFlow cuts lines off, or fills them with zeros
@pytest.mark.parametrize(
    ("kind", "move"), [("COMPLEX_ABS", "SQUEEZE"), ("REAL", ""), ("IMAG", "RESHAPE"), ("CAST", "SQUEEZE")]
)
def test_real_ops_compute_the_same(kind: str, move: str, length: int) -> None:
    graph, x = spectrum(kind, length, move), noise(FRAMES, 1, WIDTH, seed=3)
    if kind == "CAST":  # LiteRT's takes the real part
        wanted = run(spectrum("REAL", length, move), x)
        np.testing.assert_array_equal(run(graph, x), wanted)
    line = np.pad(x, ((0, 0), (0, 0), (0, max(0, length - WIDTH))))[..., :length]
    spectra = np.fft.rfft(line.astype(np.float64))
    parts = {"COMPLEX_ABS": np.abs(spectra), "IMAG": spectra.imag}
    wanted = parts.get(kind, spectra.real)
    found = prepare(graph).graph
    assert not {op.kind for op in found.ops} & {"RFFT2D", "COMPLEX_ABS", "REAL", "IMAG", "CAST", "ADD"} - {
        "ADD" if kind == "COMPLEX_ABS" else ""
    }
    # Some 24 products of values below 4, each off by 2^-24 of itself, as are the weights; roots double what is small.
    np.testing.assert_allclose(run(found, x).reshape(wanted.shape), wanted, rtol=1e-5, atol=2e-5)


def test_what_is_read_otherwise_stays() -> None:
    plane = Chain()
    x = plane.input((2, 8, 16), "x")
    two = plane.op("RFFT2D", x, plane.constant([8, 16]), dtype="complex64", shape=(2, 8, 9))
    graph = plane.graph(plane.op("COMPLEX_ABS", two, shape=(2, 8, 9)))
    assert transforms(graph) == (graph, [])
    named = Chain()
    x = named.input((2, 1, 16), "x")
    graph = named.graph(named.op("RFFT2D", x, named.constant([1, 16]), dtype="complex64", shape=(2, 1, 9)))
    assert transforms(graph) == (graph, [])


def test_magnitudes_build(tmp_path: Path) -> None:
    flatbuffer.write(spectrum("COMPLEX_ABS", 16), tmp_path / "net.tflite")
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=noise(48, FRAMES, 1, WIDTH), recipe="fast")
    # Of 8 bits: two products of 40 dB each, squares that span 16 times the range, and a table.
    assert built.quality[built.choice.name].worst_db > 20
