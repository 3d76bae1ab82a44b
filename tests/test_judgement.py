"""What a build says that refuses its result, and which variants it judges."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.judgement import COMPENSATED, PLAIN, UNCOMPENSATED, of_those_that_run, uncertain
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.verify.looks import Total
from edgeqwt.verify.metrics import compare
from edgeqwt.verify.quality import Quality, TensorQuality, layer_quality
from tests.chain import NONE, Chain, noise
from tests.runtime.test_foreign import added

DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def test_columns_of_other_magnitude_are_named_where_they_cost_the_result(tmp_path: Path) -> None:
    """A pressure of 1e5 beside an acceleration of 1, which alone decides."""
    chain = Chain()
    weights = noise(3, 2, seed=1) * np.array([1.0, 1e-6], np.float32)
    graph = chain.graph(chain.op("FULLY_CONNECTED", chain.input((1, 2), "x"), chain.constant(weights), -1, **DENSE))
    flatbuffer.write(graph, tmp_path / "net.tflite")
    values = np.random.default_rng(0).normal(size=(48, 2)) * [1.0, 1e3] + [0.0, 1e5]
    with pytest.raises(edgeqwt.QualityError) as caught:
        edgeqwt.build(tmp_path / "net.tflite", calibration=values.astype(np.float32), recipe="fast")
    assert "--standardize x" in str(caught.value.hint)
    assert pickle.loads(pickle.dumps(caught.value)).refused is None  # what a page needs stays in this process
    interface = edgeqwt.Interface(standardize=("x",))
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=values.astype(np.float32), interface=interface)
    assert not built.shortfalls


def quality(variants: Mapping[str, Graph]) -> dict[str, Quality]:
    good = added(1.0)
    reference = replace(good, tensors=tuple(replace(t, dtype="float32", quantization=None) for t in good.tensors))
    return layer_quality(reference, variants, [{0: np.array([1.0, 2.0 + k], np.float32)} for k in range(3)])


def test_a_compensated_model_that_does_not_run_is_dropped() -> None:
    found, said = of_those_that_run({UNCOMPENSATED: added(1.0), COMPENSATED: added(2.0**24)}, quality)
    assert list(found) == [UNCOMPENSATED]
    [sentence] = said
    assert sentence.startswith("the compensated model is dropped: ADD #1 -> 'sum' ends the process of the xnnpack")


def test_models_that_run_are_judged() -> None:
    found, said = of_those_that_run({UNCOMPENSATED: added(1.0), COMPENSATED: added(1.0)}, quality)
    assert list(found) == [UNCOMPENSATED, COMPENSATED]
    assert said == ()


def test_where_the_other_one_does_not_run_the_error_says_so() -> None:
    with pytest.raises(KernelEndedError, match="ADD #1"):
        of_those_that_run({UNCOMPENSATED: added(2.0**24), COMPENSATED: added(1.0)}, quality)


def test_plain_quantization_has_the_tails_that_the_build_found(tmp_path: Path) -> None:
    """Held-out samples that need no wider ranges would speak for the plain model, which fresh ones do not."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(16, 8, seed=1)), -1, shape=(1, 16), **DENSE)
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(2, 16, seed=2)), -1, name="z", shape=(1, 2), **DENSE)
    flatbuffer.write(chain.graph(z), tmp_path / "net.tflite")
    values = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=values, recipe="fast")
    found = built.made.account("range_tails")
    assert found is not None
    assert found.kept
    steps = {name: graph.tensors[graph.outputs[0]].quantization for name, graph in built.variants.items()}
    assert steps[PLAIN].same_as(steps[UNCOMPENSATED])


def judged(largest: float) -> Quality:
    """An output of 16 samples, one of which errs more than the others by a factor."""
    found = Total()
    for k in range(16):
        reference = np.array([5.0 + (-1) ** k])
        found.add(compare(reference, reference + 0.01 * (largest if k == 7 else 1.0), varying=True), each=True)
    errors, agreeing, variations = tuple(found.errors), tuple(found.agreeing), tuple(found.variations)
    output = TensorQuality("y", 0, "ADD", found.sums.result(), errors, agreeing, variations)
    return Quality(16, (), (output,), (output,))


@pytest.mark.parametrize("largest", [1.0, 100.0])
def test_a_figure_that_one_sample_decides_is_said_to_be_uncertain(largest: float) -> None:
    said = list(uncertain(judged(largest)))
    if largest == 1:  # every sample errs by as much
        assert not said
    else:
        assert "one of the 16 held-out samples has 100% of the error" in said[0]
        assert "fitted on" not in said[0]


def test_an_output_that_never_varies_and_never_errs_is_certain() -> None:
    """A classifier whose last layer was zero ended in a division by the sum of its errors."""
    found = Total()
    for _ in range(16):
        found.add(compare(np.array([5.0]), np.array([5.0]), varying=True), each=True)
    errors, agreeing, variations = tuple(found.errors), tuple(found.agreeing), tuple(found.variations)
    output = TensorQuality("y", 0, "ADD", found.sums.result(), errors, agreeing, variations)
    assert not [*uncertain(Quality(16, (), (output,), (output,)))]


def test_what_fitted_samples_have_is_expected_where_it_is_less() -> None:
    """Candidates were chosen by the held-out samples, so that these may flatter the chosen one."""
    few, worse = judged(10), judged(100)
    assert few.decisive[0].standard_error < 12  # 20 dB lie between the two
    assert "Those that it was fitted on have 12.3 dB: expect that." in next(uncertain(few, worse))
    assert "fitted on" not in next(uncertain(worse, few))
