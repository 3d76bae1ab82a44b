"""The field benchmark follows what a build names, and counts what varies."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.field import NAMED, Case, _taken, varying_db
from edgeqwt.advice import remedies
from edgeqwt.recipe import recipe
from edgeqwt.trials import Place, Trial
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.quality import Quality
from tests.chain import Chain


def said(*trials: Trial) -> str:
    return remedies(Chain().graph(), Quality(8, (), (), ()), OwnErrors(8, (), 0), recipe.load("fast"), trials)


def test_a_remedy_that_was_enough_is_followed() -> None:
    message = said(
        Trial("--split-outputs", Place("y", 9.0), 8), Trial("--output-type 'a b=int16'", Place("y", 30.0), 8)
    )
    found = NAMED.search(message)
    assert found is not None
    assert found[1] == "--output-type 'a b=int16'"


def test_one_that_was_not_enough_is_none() -> None:
    assert NAMED.search(said(Trial("--precision w8a16", Place("y", 24.0), 8))) is None


def test_what_all_samples_share_does_not_count() -> None:
    wanted = np.array([[99.0], [101.0]])
    assert varying_db(wanted, wanted + 0.1) == pytest.approx(20.0)  # 1 over 0.01
    assert varying_db(wanted, wanted) == float("inf")


def test_a_case_is_as_good_as_its_worst_part() -> None:
    assert Case("01", "", {"output 0": 30.0, "scores": 12.0}, 1.0).worst == 12.0
    assert Case("01", "", {}, 1.0, "error: no").worst == float("-inf")


def test_a_standardized_input_is_fed_as_its_file_takes_it() -> None:
    source = {"factor": [2.0, 0.5], "shift": [1.0, -1.0], "axis": 1}
    rows = np.array([[5.0, -0.5], [1.0, -1.0]], np.float32)
    assert np.array_equal(_taken(rows, source), [[2.0, 1.0], [0.0, 0.0]])
    assert _taken(rows, {"factor": None}) is rows
