"""What fresh samples will have, by holding out each quarter of the samples in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.cross_validation import LEAST, Expected, cross_validated, possible, worth_it
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.judgement import uncertain
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.pipeline import BuildResult
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.techniques.ranges import MseRanges
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise
from tests.test_judgement import judged

LITERT = TargetProfile("tflite", "", ("reference", "xnnpack"))
DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def dense(more: bool = False) -> Graph:
    """Two layers on a vector of 8; `more` outputs: which of theirs is largest, and a constant."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(16, 8, seed=1)), -1, shape=(1, 16), **DENSE)
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(2, 16, seed=2)), -1, shape=(1, 2), **DENSE)
    if not more:
        return chain.graph(z)
    index = chain.op("ARG_MAX", z, chain.constant([1]), dtype="int32", shape=(1,), outputType="INT32")
    positive = chain.op("RELU", z, shape=(1, 2))
    return chain.graph(z, index, chain.op("MINIMUM", positive, chain.constant(np.zeros((1, 2))), shape=(1, 2)))


def built(folder: Path, values: Array, more: bool = False) -> BuildResult:
    flatbuffer.write(dense(more), folder / "net.tflite")
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


def test_nothing_is_expected_of_indices_and_constants(tmp_path: Path) -> None:
    """An output without any error was expected to have "inf dB, or less"."""
    values = np.random.default_rng(0).normal(size=(64, 8))
    values[0] *= 6
    said = [warning for warning in built(tmp_path, values, more=True).warnings if warning.startswith("expect ")]
    assert len(said) == 1
    assert "fully_connected" in said[0]


def test_what_slow_techniques_gain_is_not_taken_for_what_fresh_samples_lack() -> None:
    """They are left out of the quarters: without that, all that they gain would be said to be lost on fresh samples."""
    graph, samples = dense(), open_samples({"x": np.random.default_rng(0).normal(size=(48, 1, 8)).astype(np.float32)})
    model = ConvertedModel(graph, (Binding(InputSpec("x", (1, 8), "float32"), graph.inputs[0]),), (), lambda sample: {})
    context = Context.of(model, graph, samples, LITERT)
    made = make(context, (MseRanges(),), Precision(), Stages())
    found = context.gate.quality(made.reference, {"": made.graph})[""]
    [output] = found.decisive
    assert output.closeness.varying_db is not None
    better = replace(output.closeness, varying_db=output.closeness.varying_db + 20)
    learned = replace(found, decisive=(replace(output, closeness=better),))

    [quick] = cross_validated(context, samples, (MseRanges(),), Precision(), found, lambda done, total: None)
    slow = (MseRanges(), Reconstruction())
    [expected] = cross_validated(context, samples, slow, Precision(), learned, lambda done, total: None)
    assert quick.slow_db == 0
    assert expected.slow_db == pytest.approx(20)  # of equal builds: only the sum in floats differs
    assert expected.db == pytest.approx(quick.db + 20)
    [said] = uncertain(learned, None, [replace(expected, db=expected.db - 10)])
    assert "(20.0 of them as learned rounding gains" in said


def test_samples_are_not_counted_where_no_number_of_them_is_held_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Iterator[Sample]:
        raise AssertionError("read")

    graph, samples = dense(), open_samples({"x": np.zeros((4, 1, 8), np.float32)})
    model = ConvertedModel(graph, (Binding(InputSpec("x", (1, 8), "float32"), graph.inputs[0]),), (), lambda sample: {})
    context = Context.of(model, graph, samples, LITERT)
    assert not possible(context, samples, Precision())
    monkeypatch.setattr("edgeqwt.cross_validation.WORTH", 0)
    assert not possible(context, Samples("none", read), Precision())


def test_few_samples_and_large_networks_are_not_held_out_in_turn() -> None:
    graph = dense()
    assert worth_it(graph, 256)
    assert not worth_it(graph, LEAST - 1)
    assert not worth_it(graph, 1 << 14)


@pytest.mark.parametrize(
    ("db", "error", "says"),
    [(25.0, 0.5, True), (30.5, 0.5, False), (40.0, 3.0, True), (25.0, np.nan, True), (np.inf, np.nan, False)],
)
def test_what_is_expected_is_said_where_it_is_less_or_uncertain(db: float, error: float, says: bool) -> None:
    quality = judged(1.0)
    has = quality.decisive[0].closeness.judged_db
    given = Expected(has - 31.0 + db, error, 64)
    said = list(uncertain(quality, None, [given]))
    assert bool(said) == says
    if said:
        assert said[0].startswith(f"expect {min(has, given.db):.1f} dB of output 'y' on fresh samples")
        assert "nan" not in said[0]
