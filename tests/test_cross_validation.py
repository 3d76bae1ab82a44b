"""What fresh samples will have, by holding out each quarter of the samples in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.cross_validation import LEAST, Expected, worth_it
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.judgement import uncertain
from edgeqwt.pipeline import BuildResult
from tests.chain import NONE, Chain, noise
from tests.test_judgement import judged

DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def dense() -> Graph:
    """Two layers on a vector of 8."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(16, 8, seed=1)), -1, shape=(1, 16), **DENSE)
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(2, 16, seed=2)), -1, shape=(1, 2), **DENSE)
    return chain.graph(z)


def built(folder: Path, values: Array) -> BuildResult:
    flatbuffer.write(dense(), folder / "net.tflite")
    return edgeqwt.build(folder / "net.tflite", calibration=values.astype(np.float32), recipe="fast")


def test_a_value_that_held_out_samples_lack_is_expected_of_fresh_ones(tmp_path: Path) -> None:
    """Sample 0 is fitted on, so that its range has room for it; the next one as large will have none."""
    values = np.random.default_rng(0).normal(size=(64, 8))
    values[0] *= 6
    result = built(tmp_path, values)
    [output] = result.quality[result.choice.name].outputs
    [said] = [warning for warning in result.warnings if warning.startswith("expect ")]
    expected = float(said.split()[1])
    assert expected < output.closeness.judged_db - 1.5  # both were built with other ranges than the other had
    assert "held out a quarter at a time, the 64 samples have" in said


def test_of_values_that_all_samples_have_the_promise_stands(tmp_path: Path) -> None:
    result = built(tmp_path, np.random.default_rng(0).uniform(-1, 1, size=(256, 8)))
    assert not [warning for warning in result.warnings if warning.startswith("expect ")]


def test_few_samples_and_large_networks_are_not_held_out_in_turn() -> None:
    graph = dense()
    assert worth_it(graph, 256)
    assert not worth_it(graph, LEAST - 1)
    assert not worth_it(graph, 1 << 14)


@pytest.mark.parametrize(("db", "error", "says"), [(25.0, 0.5, True), (30.5, 0.5, False), (40.0, 3.0, True)])
def test_what_is_expected_is_said_where_it_is_less_or_uncertain(db: float, error: float, says: bool) -> None:
    quality = judged(1.0)
    has = quality.decisive[0].closeness.judged_db
    given = Expected(has - 31.0 + db, error, 64)
    said = list(uncertain(quality, None, [given]))
    assert bool(said) == says
    if said:
        assert said[0].startswith(f"expect {min(has, given.db):.1f} dB of output 'y' on fresh samples")
