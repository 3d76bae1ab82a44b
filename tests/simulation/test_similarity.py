"""Ranges by outputs, where the right answer is known."""

from __future__ import annotations

import pytest
import torch

from edgeqwt.simulation.quantizers import Op, Uniform
from edgeqwt.simulation.similarity import Correlated, correlation, makes_scores, ranking
from edgeqwt.simulation.sites import Role, sites
from tests.simulation.blocks import graph

Tensor = torch.Tensor


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_correlation_does_not_see_gains_and_offsets() -> None:
    x = values(3, 50)
    assert correlation(x, 5 * x + 2) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation(x, torch.ones_like(x)) == 0
    found = torch.corrcoef(torch.stack([x.flatten(), values(150, seed=1)]))[0, 1]
    assert correlation(x.flatten(), values(150, seed=1)) == pytest.approx(float(found), abs=1e-5)


def test_ranking_counts_pairs_by_how_far_their_order_is_wrong() -> None:
    wanted = torch.tensor([[0.0, 1.0, 2.0]])
    deviation = float(wanted.std(correction=0))
    assert ranking(wanted, 3 * wanted + 7) == 0
    assert ranking(wanted, torch.zeros(1, 3)) == 0  # equal scores are not inverted …
    assert ranking(wanted, torch.zeros(1, 3), margin=0.5) == pytest.approx(0.5)  # … but have no margin
    swapped = torch.tensor([[1.0, 0.0, 2.0]])  # one pair of three, by 1
    assert ranking(wanted, swapped) == pytest.approx(1 / deviation / 3)
    assert ranking(torch.ones(1, 3), swapped) == 0  # without an order nothing is wrong


def test_an_output_that_ignores_the_largest_value_gets_a_range_without_it() -> None:
    x = torch.cat([values(8, 1, 63), torch.full((8, 1, 1), 20.0)], dim=-1)
    blind = torch.ones(64)
    blind[-1] = 0
    rule, op = Correlated(), Op(lambda v: v * blind)
    by_output, by_values = rule.fit_output(x, 4, op).rounds(x), rule.fit(x, 4).rounds(x)
    assert by_output.max() < by_values.max()
    assert correlation(op.run(x), op.run(by_output)) > correlation(op.run(x), op.run(by_values)) + 0.01
    minmax = Uniform("minmax").fit(x, 4).rounds(x)
    assert correlation(x, by_values) >= correlation(x, minmax)


def test_order_decides_where_it_is_weighed_and_never_of_other_outputs() -> None:
    x, keys = values(4, 6, 8), values(4, 8, 6, seed=1)
    x[:, 0, 0] = 9.0
    scores, other = Op(lambda v: v @ keys, scores=True), Op(lambda v: v @ keys)

    def wrong(rule: Correlated, op: Op) -> float:
        return ranking(op.run(x), op.run(rule.fit_output(x, 3, op).rounds(x)))

    assert wrong(Correlated(rank=1e6), scores) < wrong(Correlated(rank=0), scores)
    assert wrong(Correlated(rank=1e6), other) == wrong(Correlated(rank=0), other)


def test_scores_are_the_products_before_softmax() -> None:
    network = graph()
    found = [s for s in sites(network) if network.ops[s.op].kind == "BATCH_MATMUL"]
    weighing = {s.op for s in found if s.role is Role.SOFTMAX}
    products = {s.op for s in found}
    assert {i for i in products if makes_scores(network, i)} == products - weighing
    assert not any(makes_scores(network, s.op) for s in sites(network) if s.role is Role.GELU)
