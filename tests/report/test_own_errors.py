"""What single ops and the ceiling say, in words."""

from __future__ import annotations

import math

import pytest

from edgeqwt.ceiling import Ceiling, Wider
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.own_errors import ceiling_sentences, own_sentences
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.thresholds import Thresholds


@pytest.mark.parametrize("db", [math.inf, 20.0])
def test_a_ceiling_without_error_is_said_in_words(result: BuildResult, db: float) -> None:
    limit = Ceiling(8, 3, db, (Wider(("y",), math.inf),))
    (said,) = ceiling_sentences(limit, result.quality[result.choice.name])
    assert ("changes no output of 8 samples" in said) == math.isinf(db)
    assert ("leave 20.0 dB of what varies" in said) != math.isinf(db)
    assert ("16 bits at 'y' alone leave no error" in said) != math.isinf(db)


def test_the_worst_tensors_together_without_error_too(result: BuildResult) -> None:
    limit = Ceiling(8, 3, 20.0, (Wider(("y",), 24.0), Wider(("y", "z"), math.inf)))
    (said,) = ceiling_sentences(limit, result.quality[result.choice.name])
    assert said.endswith("16 bits at 'y' alone 24.0 dB, at the 2 worst leave no error")
    assert "∞" not in said


@pytest.mark.parametrize(("db", "lines"), [(15.0, 3), (25.0, 2), (math.nan, 2)])
def test_a_poor_model_without_a_poor_op_is_explained(db: float, lines: int) -> None:
    op = OpError(3, "ADD", "y", "y", 24.0, db, 0.0, 0.0, 1.0, moves=False, median_used=None)
    said = [*own_sentences(OwnErrors(8, (op, op), 0), 5, Thresholds(), db)]
    assert len(said) == lines
    assert ("No op is poor by itself" in said[-1]) == (lines == 3)


def test_what_to_do_is_said_once() -> None:
    op = OpError(3, "ADD", "y", "y", 14.0, 9.0, 0.0, 1.0, 0.0, moves=False, median_used=None)
    first, second = own_sentences(OwnErrors(8, (op, op), 0), 5, Thresholds(), math.nan)
    assert "edgeqwt build" in first
    assert second.endswith("with all before it. As above.")
