"""Samples observed in shards: what one process observes, and the bytes that come of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.deciding import Within
from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.shards import observe_in_shards
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError
from tests import small


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> small.Small:
    return small.write(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def job(files: small.Small) -> edgeqwt.Job:
    return edgeqwt.open_job(files.model, calibration=files.samples, recipe="fast")


def same(one: dict[int, Statistics], two: dict[int, Statistics]) -> bool:
    """Whether statistics are equal, bin by bin and fold by fold."""
    return one.keys() == two.keys() and all(
        replace(one[t], folds=None) == replace(two[t], folds=None) and np.array_equal(one[t].folds, two[t].folds)
        for t in one
    )


def test_a_build_of_any_number_of_shards_has_the_same_bytes(job: edgeqwt.Job, files: small.Small) -> None:
    built = [
        edgeqwt.build(files.model, calibration=files.samples, recipe="fast", accept=True, observations=found)
        for found in (None, *(job.observations(shards) for shards in (1, 2, 3)))
    ]
    assert len({result.to_bytes() for result in built}) == 1


def test_samples_keep_their_folds(job: edgeqwt.Job) -> None:
    # 5 and 3 samples a shard: shards do not begin with the first of FOLDS, and the last one is shorter.
    graph, fit = job.context.graph, list(islice(job.context.fit, 14))
    whole = observe(graph, fit)[0]
    assert all(same(observe_in_shards(graph, fit, 14, shards, {}), whole) for shards in (3, 5))


def test_what_decides_in_one_shard_is_enough(job: edgeqwt.Job) -> None:
    graph, fit = job.context.graph, list(islice(job.context.fit, 4))
    whole = observe(graph, fit)[0]
    top = whole[graph.outputs[0]].high
    above = {0: Within(low=top)}  # only the sample that has it decides
    assert same(observe_in_shards(graph, fit, 4, 4, above), observe(graph, fit, deciding=above)[0])
    with pytest.raises(InputError, match="is nowhere above"):
        observe_in_shards(graph, fit, 4, 2, {0: Within(low=top + 1)})


def test_there_is_a_sample_for_each_shard(job: edgeqwt.Job) -> None:
    count = job.context.fit.samples.count
    with pytest.raises(InputError, match=f"{count} samples cannot be observed in 1000 shards"):
        job.observations(shards=1000)


def test_an_error_of_a_shard_is_the_error(job: edgeqwt.Job) -> None:
    feeds: list[dict[int, Any]] = [dict(feed) for feed in islice(job.context.fit, 4)]
    (tensor,) = job.context.graph.inputs
    feeds[3] = {tensor: np.full_like(feeds[3][tensor], np.nan)}
    with pytest.raises(InputError, match="a value is NaN or infinite"):
        observe_in_shards(job.context.graph, feeds, 4, 2, {})


@pytest.mark.requires("ray")
def test_a_cluster_observes_the_same(job: edgeqwt.Job) -> None:
    here, there = job.observations(), job.observations(shards=3, on="ray")
    assert same(dict(there.statistics), dict(here.statistics))
