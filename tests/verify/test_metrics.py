from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest

from edgeqwt.verify import metrics
from edgeqwt.verify.metrics import Sums, compare


def test_metrics_are_their_definitions_over_all_samples() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(7, 3, 10)).astype(np.float32)
    test = reference + rng.normal(scale=0.05, size=reference.shape).astype(np.float32)
    total = reduce(Sums.plus, (compare(r, t, step=0.1) for r, t in zip(reference, test, strict=True)), Sums())
    found = total.result()
    r, t = reference.astype(np.float64).ravel(), test.astype(np.float64).ravel()
    assert (found.samples, found.elements) == (7, 210)
    # Sums of 210 float64 terms in another order: some 1e-14 relative.
    assert found.sqnr_db == pytest.approx(10 * np.log10((r**2).sum() / ((r - t) ** 2).sum()), rel=1e-12)
    assert found.cosine == pytest.approx(r @ t / np.linalg.norm(r) / np.linalg.norm(t), rel=1e-12)
    assert found.rms_error == pytest.approx(np.sqrt(((r - t) ** 2).mean()), rel=1e-12)
    assert found.max_abs == np.abs(r - t).max()
    assert found.max_steps == np.abs(r - t).max() / 0.1
    assert found.top1 == (reference.argmax(-1) == test.argmax(-1)).mean()
    assert 0 < found.top1 < 1  # otherwise the line above proves nothing


@pytest.mark.parametrize("fill", [0.0, -np.inf])
def test_large_tensors_are_compared_block_by_block(fill: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(3, 5, 20)).astype(np.float32)
    reference[1, 2, 3] = fill
    integers = np.rint(reference.clip(-3, 3) / 0.1).astype(np.int8)

    def real(values: np.typing.NDArray[np.int8]) -> np.typing.NDArray[np.float32]:
        return (values * 0.1).astype(np.float32)

    whole = compare(reference, real(integers), 0.1, varying=True, stacked=True)
    monkeypatch.setattr(metrics, "BLOCK", 7)
    parts = compare(reference, integers, 0.1, varying=True, stacked=True, real=real)
    assert whole.elements == parts.elements == 300 - np.isinf(fill)
    assert (whole.max_abs, whole.rows, whole.agreeing) == (parts.max_abs, parts.rows, parts.agreeing)
    assert whole.spread is not None
    assert parts.spread is not None
    assert whole.spread.squares == parts.spread.squares
    for name in ("reference", "test", "product", "error"):
        # Sums of 300 float64 terms in another order.
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)


def test_identical_tensors_are_infinitely_close() -> None:
    x = np.arange(6.0).reshape(1, 6)
    found = compare(x, x).result()
    assert (found.sqnr_db, found.cosine, found.max_abs, found.top1) == (math.inf, 1.0, 0.0, 1.0)
    assert found.max_steps is None


def test_zeros() -> None:
    zero, one = np.zeros((1, 4)), np.ones((1, 4))
    assert compare(zero, zero).result().sqnr_db == math.inf
    assert compare(zero, zero).result().cosine == 1.0
    assert compare(zero, one).result().sqnr_db == -math.inf
    assert compare(zero, one).result().cosine == 0.0
    assert compare(one, zero).result().sqnr_db == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_never_hidden(bad: float) -> None:
    good = compare(np.ones((1, 2)), np.ones((1, 2)))
    wrong = compare(np.ones((1, 2)), np.array([[1.0, bad]]))
    for order in ((good, wrong), (wrong, good)):
        found = reduce(Sums.plus, order).result()
        assert math.isnan(found.sqnr_db)
        assert not math.isfinite(found.max_abs)


def test_tensors_without_two_classes_have_no_agreement() -> None:
    assert compare(np.ones((5, 1)), np.ones((5, 1))).result().top1 is None
    assert compare(np.float64(1.0) * np.ones(()), np.ones(())).result().top1 is None
