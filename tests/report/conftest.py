"""Builds that the tests of the report look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.compensation.cwac import Outcome
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.passes.run import Made
from edgeqwt.pipeline import BuildResult
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise


def two_outputs() -> Graph:
    """Images (1, 8, 8, 3) to class probabilities (1, 4) and a mask (1, 8, 8, 2)."""
    chain = Chain()
    x = chain.input((1, 8, 8, 3), "image")
    x = chain.op(
        "CONV_2D",
        x,
        chain.constant(noise(6, 3, 3, 3, seed=1, scale=0.3)),
        chain.constant(noise(6, seed=2)),
        name="features",
        **{**CONV, "fusedActivationFunction": "RELU"},
    )
    mask = chain.op(
        "DEPTHWISE_CONV_2D",
        x,
        chain.constant(noise(1, 3, 3, 6, seed=3, scale=0.3)),
        chain.constant(noise(6, seed=4)),
        name="mask",
        **DEPTHWISE,
    )
    axes = chain.constant(np.array([1, 2]))
    x = chain.op("MEAN", x, axes, name="mean", keepDims=False)
    weights, bias = chain.constant(noise(4, 6, seed=5)), chain.constant(noise(4, seed=6))
    x = chain.op("FULLY_CONNECTED", x, weights, bias, name="logits", keepNumDims=False, **NONE)
    return chain.graph(chain.op("SOFTMAX", x, name="classes", beta=1.0), mask)


def metrics(outputs: dict[str, Array], extras: dict[str, Array]) -> dict[str, float]:
    """Two figures, one of which is not finite."""
    return {"mean": float(outputs["mask"].mean()), "nothing": float("nan")}


def build(folder: Path, **options: Any) -> BuildResult:
    """A 4-bit build of `two_outputs` from 24 random images."""
    flatbuffer.write(two_outputs(), folder / "model.tflite")
    images = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype(np.float32)
    return edgeqwt.build(folder / "model.tflite", calibration={"image": images}, precision="w4a8", **options)


def with_detail(made: Made, outcome: Outcome) -> Made:
    """What was made, as if compensation had ended otherwise."""
    steps = tuple(
        replace(step, account=replace(step.account, detail=outcome))
        if isinstance(step.account.detail, Outcome)
        else step
        for step in made.steps
    )
    return replace(made, steps=steps)


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """A build with compensation and scores."""
    images = np.random.default_rng(1).normal(size=(6, 8, 8, 3)).astype(np.float32)
    return build(tmp_path_factory.mktemp("scored"), evaluation={"image": images}, metric=metrics)


@pytest.fixture(scope="session")
def plain_result(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """The same without compensation and scores, with float inputs and outputs."""
    return build(tmp_path_factory.mktemp("plain"), compensation=False, float_io=True)
