"""Arm's compiler takes lowered graphs whole: every op on the NPU."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise
from tests.one_op import lowered


def mobile_net() -> Graph:
    """A small network of the usual parts: stem, depthwise block, residual, two branches, pooling, classifier."""
    chain = Chain()
    x = chain.input((1, 16, 16, 3), name="image")
    stem: dict[str, Any] = {**CONV, "strideH": 2, "strideW": 2, "fusedActivationFunction": "RELU6"}
    x = chain.op("CONV_2D", x, chain.constant(noise(8, 3, 3, 3, scale=0.2)), chain.constant(noise(8)), **stem)
    y = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 8, scale=0.3)), chain.constant(noise(8)),
                 **{**DEPTHWISE, "fusedActivationFunction": "RELU"})  # fmt: skip
    y = chain.op("CONV_2D", y, chain.constant(noise(8, 1, 1, 8, scale=0.3)), chain.constant(noise(8)), **CONV)
    y = chain.op("ADD", x, y, **NONE)
    y = chain.op("RELU", chain.op("LEAKY_RELU", y, alpha=0.1))
    gate = chain.op("LOGISTIC", chain.op("MEAN", y, chain.constant([1, 2]), keepDims=True))
    y = chain.op("MUL", y, gate, **NONE)
    y = chain.op("CONCATENATION", y, chain.op("HARD_SWISH", x), axis=3)
    y = chain.op("PAD", y, chain.constant([[0, 0], [1, 1], [1, 1], [0, 0]]))
    window: dict[str, Any] = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": "VALID"}
    y = chain.op("MAX_POOL_2D", y, **window, **NONE)
    y = chain.op("MEAN", y, chain.constant([1, 2]), keepDims=False)
    y = chain.op("FULLY_CONNECTED", y, chain.constant(noise(5, 16)), chain.constant(noise(5)), **NONE)
    return chain.graph(chain.op("SOFTMAX", y, beta=1.0, name="probabilities"))


@pytest.mark.requires("ethosu")
def test_every_op_runs_on_the_npu(tmp_path: Path) -> None:
    graph = mobile_net()
    rng = np.random.default_rng(0)
    feeds = [{graph.inputs[0]: rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)} for _ in range(4)]
    flatbuffer.write(lowered(graph, feeds).graph, tmp_path / "net.tflite")
    command = [sys.executable, "-m", "ethosu.vela", "net.tflite", "--accelerator-config", "ethos-u55-128",
               "--output-dir", "out", "--verbose-performance"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU operators = 0" in done.stdout
    (layers,) = (tmp_path / "out").glob("*per-layer.csv")
    with layers.open() as file:
        assert {row["Target"] for row in csv.DictReader(file)} == {"NPU"}
