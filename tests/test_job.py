"""A build, technique by technique, from Python; the example does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgeqwt
from edgeqwt.errors import RecipeError
from edgeqwt.graph import flatbuffer
from edgeqwt.job import located
from edgeqwt.judgement import COMPENSATED
from edgeqwt.recipe.recipe import load, with_precision
from tests import small
from tests.chain import Chain


@pytest.fixture
def files(tmp_path: Path) -> small.Small:
    return small.write(tmp_path)


def test_the_steps_are_those_of_a_build(files: small.Small, tmp_path: Path) -> None:
    result = edgeqwt.build(files.model, calibration=files.samples, recipe="fast", accept=True)
    job = edgeqwt.open_job(files.model, calibration=files.samples, recipe="fast")
    assert repr(job).startswith("Job(")
    assert "cwac" in repr(job)
    state, names = job.start(), []
    for technique in job.techniques:
        state, account = job.apply(technique, state)
        names.append((technique.name, account.kept, account.sentences))
    steps = [(step.technique.name, step.account.kept, step.account.sentences) for step in result.made.steps]
    assert names == steps
    assert job.to_bytes(state) == flatbuffer.to_bytes(result.variants[COMPENSATED])
    assert job.gain_db(state, state) == 0.0
    job.save(state, tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == job.to_bytes(state)


def test_widths_that_take_many_builds_are_refused(files: small.Small) -> None:
    recipe = with_precision(load("fast"), "mixed", edgeqwt.Mixed(max_size=10_000))
    with pytest.raises(RecipeError, match="many builds"):
        edgeqwt.open_job(files.model, calibration=files.samples, recipe=recipe)


def test_the_example(files: small.Small, tmp_path: Path) -> None:
    script, output = small.ROOT / "examples" / "steps" / "steps.py", tmp_path / "steps.tflite"
    command = [sys.executable, str(script), str(files.model), str(files.samples), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [t.name for t in load("balanced").techniques]
    assert output.stat().st_size > 1000


def test_what_rewrites_made_of_a_tensor_is_found_where_the_source_computes_it() -> None:
    chain = Chain()
    x = chain.op("RELU", chain.input((1, 4)), name="a/Relu/turned")  # in place of a/Relu
    x = chain.op("SQUARE", x, name="b/Pow/rows")  # beside b/Pow
    graph = chain.graph(chain.op("NEG", chain.op("ABS", x, name="b/Pow"), name="other"))
    known = {"a/Relu": "a (Relu)", "b/Pow": "b (Pow)"}
    assert located(known, graph) == {**known, "a/Relu/turned": "a (Relu)", "b/Pow/rows": "b (SQUARE)"}
