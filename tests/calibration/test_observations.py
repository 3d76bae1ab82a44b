"""What was observed is kept, and used for nothing else than what it belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt import Observations
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.passes import context
from tests import small


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> small.Small:
    return small.write(tmp_path_factory.mktemp("observations"))


@pytest.fixture(scope="module")
def job(files: small.Small) -> edgeqwt.Job:
    return edgeqwt.open_job(files.model, calibration=files.samples, recipe="fast")


def test_what_is_read_is_what_was_written(job: edgeqwt.Job, tmp_path: Path) -> None:
    found = job.observations()
    found.save(tmp_path / "one.npz")
    read = Observations.load(tmp_path / "one.npz")
    read.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert (read.graph, read.samples, read.tensors) == (found.graph, found.samples, found.tensors)
    for t, statistics in found.statistics.items():
        again = read.statistics[t]
        assert replace(again, folds=None) == replace(statistics, folds=None)
        assert again.folds is not None
        assert again.folds.dtype == np.int64
        np.testing.assert_array_equal(again.folds, statistics.folds)


@pytest.mark.parametrize("options", [{"recipe": "fast"}, {"recipe": "plain", "precision": "w8a16"}])
def test_another_build_gives_the_same_bytes_and_observes_no_more(
    job: edgeqwt.Job, files: small.Small, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen, real = job.observations(), list[int](), context.observe

    def counted(graph: Graph, *args: Any, **more: Any) -> Any:
        seen.append(id(graph))
        return real(graph, *args, **more)

    monkeypatch.setattr(context, "observe", counted)
    first, second = (
        edgeqwt.open_job(files.model, calibration=files.samples, observations=known, **options)
        for known in (None, found)
    )
    states = [first.start(), second.start()]
    assert len(seen) == 1
    for technique in first.techniques:
        states = [j.apply(technique, state)[0] for j, state in zip((first, second), states, strict=True)]
    assert first.to_bytes(states[0]) == second.to_bytes(states[1])


def test_a_build_takes_them(job: edgeqwt.Job, files: small.Small) -> None:
    results = [
        edgeqwt.build(files.model, calibration=files.samples, recipe="plain", accept=True, observations=known)
        for known in (None, job.observations())
    ]
    assert results[0].to_bytes() == results[1].to_bytes()


def test_it_says_what_differs(job: edgeqwt.Job, files: small.Small, tmp_path: Path) -> None:
    found = job.observations()
    with np.load(files.samples) as archive:
        arrays = dict(archive)
    other = {name: array.copy() for name, array in arrays.items()}
    next(iter(other.values()))[3] += 1  # of those to fit on the third: sample 1 is held out
    fewer = {name: array[:-4] for name, array in arrays.items()}
    weights = flatbuffer.read(files.model)
    k = next(i for i, t in enumerate(weights.tensors) if t.data is not None and t.data.size > 4 and t.is_float)
    changed = weights.tensors[k].data
    assert changed is not None
    doubled = replace(weights.tensors[k], data=changed * 2)
    flatbuffer.write(
        replace(weights, tensors=(*weights.tensors[:k], doubled, *weights.tensors[k + 1 :])), tmp_path / "m.tflite"
    )
    odd = replace(found, tensors=("nobody", *found.tensors[1:]), graph="")
    cases = [
        (files.model, arrays, odd, "activation 0 of the float graph is .* here and was 'nobody'"),
        (files.model, arrays, replace(found, deciding="x"), "something else decided"),
        (files.model, other, found, "sample 2 of those to fit on"),
        (files.model, fewer, found, "has 9 samples to fit on, and there were 12"),
        (tmp_path / "m.tflite", arrays, found, "other constants"),
    ]
    for model, samples, known, said in cases:
        with pytest.raises(InputError, match=said) as caught:
            edgeqwt.open_job(model, calibration=samples, recipe="plain", observations=known)
        assert "job.observations()" in str(caught.value.hint)


def test_other_files_are_refused(files: small.Small, tmp_path: Path, job: edgeqwt.Job) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    job.observations().save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-200])
    for path in (files.samples, tmp_path / "text.npz", tmp_path / "cut.npz", tmp_path / "none.npz"):
        with pytest.raises(InputError, match="holds no observations"):
            Observations.load(path)
