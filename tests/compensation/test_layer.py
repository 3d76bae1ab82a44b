from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.samples import Samples, roles, split
from edgeqwt.compensation.layer import CHUNK


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 16, 37])
def test_roles_are_those_of_the_calibration_samples(count: int) -> None:
    values = np.arange(count)
    samples = Samples("arrays", lambda: ({"x": value} for value in values), count)
    wanted = [[int(sample["x"]) for sample in part] for part in split(samples)]
    masks = roles(range(count), count)
    assert [np.flatnonzero(mask).tolist() for mask in masks] == wanted
    assert all(mask.any() for mask in masks)


def test_roles_do_not_depend_on_the_chunks() -> None:
    whole = roles(range(100), 100)
    parts = [roles(range(i, min(i + CHUNK, 100)), 100) for i in range(0, 100, CHUNK)]
    for k in (0, 1):
        np.testing.assert_array_equal(np.concatenate([part[k] for part in parts]), whole[k])
