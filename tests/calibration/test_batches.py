from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.user_samples import from_iterable
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array


def loader(*sizes: int) -> list[dict[str, Array]]:
    """Batches of these sizes, whose rows are numbered on."""
    rows = np.arange(sum(sizes), dtype=np.float32)[:, None]
    return [{"x": part, "y": -part} for part in np.split(rows, np.cumsum(sizes)[:-1])]


@pytest.mark.parametrize(("size", "count"), [(1, 7), (2, 3), (3, 2), (7, 1)])
def test_rows_keep_their_order_whatever_the_batches(size: int, count: int) -> None:
    samples = list(open_samples(loader(3, 3, 1), batch_size=size))
    assert len(samples) == count  # what is left over is dropped
    joined = np.concatenate([sample["x"] for sample in samples])
    assert joined.ravel().tolist() == list(range(size * count))
    assert all((sample["y"] == -sample["x"]).all() for sample in samples)


def test_batches_as_they_come() -> None:
    assert [sample["x"].shape for sample in open_samples(loader(3, 1), batch_size=None)] == [(3, 1), (1, 1)]


def test_states_beside_inputs_are_no_batches() -> None:
    sample = {"x": np.zeros((1, 5)), "state": np.zeros((2, 1, 5))}
    (found,) = open_samples([sample])
    assert found["state"].shape == (2, 1, 5)


def test_arrays_make_batches_too() -> None:
    samples = open_samples({"x": np.arange(6.0)[:, None]}, batch_size=2)
    assert [sample["x"].ravel().tolist() for sample in samples] == [[0, 1], [2, 3], [4, 5]]


def test_too_few_rows_for_a_batch() -> None:
    with pytest.raises(InputError, match="2 rows, too few for a batch of 4"):
        list(open_samples(from_iterable(loader(2)), batch_size=4))
    with pytest.raises(InputError, match="batch of 0"):
        open_samples(loader(2), batch_size=0)
