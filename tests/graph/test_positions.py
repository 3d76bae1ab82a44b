"""Some positions in place of all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.graph.positions import every, some, thinned


@pytest.mark.parametrize("shape", [(1, 10), (1, 7, 7, 3), (1, 56, 56, 24), (1, 112, 112, 8), (1, 4096, 2)])
@pytest.mark.parametrize("wanted", [1, 100, 256, 100_000])
def test_enough_positions_of_all_columns_are_taken(shape: tuple[int, ...], wanted: int) -> None:
    step, positions = every(shape, wanted), math.prod(shape[:-1])
    places = np.broadcast_to(np.arange(shape[-2])[:, None], shape)
    taken = some(places, step)
    assert len(taken) >= min(wanted, positions)
    assert len(taken) <= max(2 * wanted, 1) or positions <= 2 * wanted
    if wanted >= 2 * shape[-2]:
        assert len(np.unique(taken)) == len(np.unique(places))


def test_a_vector_is_one_position() -> None:
    assert every((10,), 1) == 1
    np.testing.assert_array_equal(some(np.arange(3), 1), [[0, 1, 2]])


def test_positions_are_whole_rows_of_channels_from_one_on() -> None:
    values = np.arange(24).reshape(1, 2, 4, 3)
    np.testing.assert_array_equal(some(values, 3, 1), [[3, 4, 5], [12, 13, 14], [21, 22, 23]])
    np.testing.assert_array_equal(some(values, 1), values.reshape(8, 3))


def test_an_activation_is_thinned_to_about_so_many_values_of_whole_positions() -> None:
    values = np.arange(56 * 56 * 24).reshape(1, 56, 56, 24)
    found = thinned(values, 4096)
    assert 4096 <= found.size <= 2 * 4096
    np.testing.assert_array_equal(found[:, 0] % 24, 0)
    np.testing.assert_array_equal(found, thinned(values, 4096))
    assert thinned(values, values.size) is values
    assert thinned(values.reshape(-1), 10).ndim == 1  # no positions to choose among
