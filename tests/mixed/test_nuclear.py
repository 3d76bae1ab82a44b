"""Sensitivity by nuclear norms, where the right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.lowering.lower import lower
from edgeqwt.mixed.build import make_mixed
from edgeqwt.mixed.cost import file_size
from edgeqwt.mixed.degradation import degradations, with_rounded_weights
from edgeqwt.mixed.nuclear import nuclear_degradations, nuclear_norm
from edgeqwt.mixed.width_groups import parts
from edgeqwt.passes.run import make
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import load
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Mixed, Precision, parse
from tests.chain import samples
from tests.mixed.builds import LAYERS, job, network


def test_the_nuclear_norm_is_the_sum_of_singular_values() -> None:
    values = np.diag([3.0, -2.0, 0.5]).astype(np.float32)
    assert nuclear_norm(values) == pytest.approx(5.5)
    one = np.outer(np.arange(4), np.arange(3)).astype(np.float32)  # of rank 1: the norms' product
    assert nuclear_norm(one.reshape(1, 2, 2, 3)) == pytest.approx(np.sqrt(14 * 5))


def test_prices_are_norm_times_error_in_the_unit_of_outputs() -> None:
    graph = network("third")
    data = samples(graph, 4)
    statistics, _ = observe(graph, data)
    rounded = {bits: lower(graph, statistics, MinMax(), Precision(bits)) for bits in (8, 4)}
    layers = parts(graph, {}).layers
    seen: list[int] = []
    found = nuclear_degradations(graph, layers, rounded, data, lambda done, total: seen.append(done))
    assert seen == [1, 2, 3, 4]
    whole = graph
    for layer in layers:
        whole = with_rounded_weights(whole, layer.weight, rounded[4])
    (measured,) = degradations(graph, [lambda: whole], data)
    assert sum(prices[4] for prices in found.values()) == pytest.approx(measured)
    assert all(prices[8] < prices[4] / 50 for prices in found.values())
    # A branch with ten times the weights has ten times the norm and a hundred times the squared error.
    ratio = found["third"][4] / np.mean([found[name][4] for name in LAYERS if name != "third"])
    assert 500 < ratio < 2000


def test_a_mixed_file_comes_of_it(tmp_path: Path) -> None:
    recipe, work = load("fast"), job(network("third"), tmp_path)
    small, large = (
        file_size(make(work, r.techniques, r.precision, Stages()).graph, r, work.target)
        for r in (replace(recipe, precision=parse(name)) for name in ("w4a8", "w8a8"))
    )
    limit = small + (large - small) // 4 + 64
    goal = Mixed(max_size=limit, samples=8, sensitivity="nuclear_norm")
    *_, account = make_mixed(work, recipe, goal, Stages())
    chosen = {layer.name: layer.chosen.weights for layer in account.layers}
    assert chosen == {name: 8 if name == "third" else 4 for name in LAYERS}
    assert account.bytes <= limit
