"""The benchmark of sentence embeddings: its sentences, its tokens, and how it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.recipe.recipe import load
from edgeqwt.widths.precision import parse

pytestmark = pytest.mark.requires("torch", "scipy")


@pytest.fixture
def benchmark(script: Callable[[str], ModuleType]) -> ModuleType:
    """benchmarks/minilm.py."""
    return script("minilm")


def test_calibration_and_test_sentences_are_disjoint_and_always_the_same(benchmark: ModuleType) -> None:
    calibration, test = benchmark.sentences(benchmark.CALIBRATION, benchmark.TEST)
    assert (len(calibration), len(test)) == (64, 300)
    assert not {*calibration} & {*test}
    assert benchmark.sentences(64, 300) == (calibration, test)


def test_closeness_of_embeddings(benchmark: ModuleType) -> None:
    reference = np.random.default_rng(0).normal(size=(20, 8))
    same = benchmark.closeness(2 * reference, reference)
    # Twice as long: cosine and order do not see it, SQNR is 0 dB.
    assert (same.cosine, same.spearman, same.neighbours) == pytest.approx((1, 1, 1))
    assert same.sqnr == pytest.approx(0)
    other = benchmark.closeness(np.random.default_rng(1).normal(size=(20, 8)), reference)
    assert abs(other.cosine) < 0.5
    assert other.neighbours < 0.5


def test_tokens_are_those_of_bert(benchmark: ModuleType) -> None:
    try:
        found = benchmark.minilm.tokens(["Hello, world!", "unaffable"], length=8)
    except FileNotFoundError as error:
        pytest.skip(f"all-MiniLM-L6-v2 is not at hand: {error}")
    # As the original tokenizer has them: [CLS] hello , world ! [SEP]; [CLS] una ##ffa ##ble [SEP].
    assert found["input_ids"].tolist() == [
        [101, 7592, 1010, 2088, 999, 102, 0, 0],
        [101, 14477, 20961, 3468, 102, 0, 0, 0],
    ]
    assert found["attention_mask"].sum(axis=1).tolist() == [6, 5]


def test_the_real_network_is_all_integer_and_close(benchmark: ModuleType, tmp_path: Path) -> None:
    calibration, test = benchmark.sentences(16, 30)
    try:
        given, judged = (benchmark.minilm.tokens(texts) for texts in (calibration, test))
    except FileNotFoundError as error:
        pytest.skip(f"all-MiniLM-L6-v2 is not at hand: {error}")
    recipe = replace(load("fast"), precision=parse("w8a16"))
    source = f"{benchmark.minilm.__file__}:create"
    built = edgeqwt.build(source, calibration=given, recipe=recipe, output=tmp_path / "out")
    graph = flatbuffer.read(tmp_path / "out" / "model.tflite")
    assert all(tensor.dtype in ("int8", "int16", "int32", "int64", "bool") for tensor in graph.tensors)
    found = benchmark.closeness(benchmark.embeddings(graph, judged), benchmark.embeddings(built.model.graph, judged))
    # The ranges of 16 sentences; the best file by hand, with 64 sentences, had 0.9976.
    assert found.cosine > 0.99
