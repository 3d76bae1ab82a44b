from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgeqwt.verify.choice import choose
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.quality import Quality, TensorQuality


def _quality(*errors: float) -> Quality:
    """Outputs with these root mean square errors, of a reference whose root mean square is 1."""

    def closeness(error: float) -> Closeness:
        sqnr = -20 * math.log10(error) if error > 0 else math.inf
        return Closeness(64, 640, sqnr, 0.99, error, 3 * error, None, 1.0)

    outputs = tuple(TensorQuality(f"y{k}", k, "FULLY_CONNECTED", closeness(error)) for k, error in enumerate(errors))
    return Quality(64, (), outputs, outputs)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((0.1,), (0.09,), "compensated"),
        ((0.1,), (0.1,), "compensated"),
        ((0.1,), (0.1001,), "int8"),
        ((0.1, 0.2), (0.05, 0.2001), "int8"),
        ((0.1, 0.2), (0.1, 0.1), "compensated"),
        ((0.1,), (math.nan,), "int8"),
        ((math.nan,), (math.nan,), "int8"),
        ((0.0,), (0.0,), "compensated"),
    ],
)
def test_no_output_may_get_worse(before: tuple[float, ...], after: tuple[float, ...], kept: str) -> None:
    assert choose({"int8": _quality(*before), "compensated": _quality(*after)}).name == kept


def test_the_reason_names_the_output_and_both_values() -> None:
    choice = choose({"int8": _quality(0.1, 0.1), "compensated": _quality(0.01, 0.2)})
    assert choice.reason == ("SQNR at 'y1': 20.00 dB int8, 13.98 dB compensated; on 64 held-out samples")
    choice = choose({"int8": _quality(0.1), "compensated": _quality(0.01)})
    assert "SQNR at 'y0': 20.00 dB int8, 40.00 dB compensated" in choice.reason


def test_the_tensor_before_a_saturating_output_decides() -> None:
    after = _quality(0.05)
    worse_behind_softmax = replace(after, outputs=_quality(0.2).outputs)
    assert choose({"int8": _quality(0.1), "compensated": worse_behind_softmax}).name == "compensated"


def test_one_candidate_is_kept() -> None:
    assert choose({"int8": _quality(0.1)}).name == "int8"


def test_each_candidate_is_held_against_the_one_kept_before_it() -> None:
    three = {"a": _quality(0.3), "b": _quality(0.1), "c": _quality(0.2)}
    assert choose(three).name == "b"


@pytest.mark.parametrize(
    ("before", "after", "elements", "kept"),
    [
        ((1.0,), (0.7,), 10, "int8"),  # 1.5 dB: as much by chance
        ((1.0,), (0.1,), 10, "compensated"),  # 10 dB
        ((1.0,), (0.1,), 1, "int8"),  # of one element, chance does that easily
        ((1.0,), (0.25,), 10, "int8"),  # 6 dB of one sample may be chance,
        ((1.0, 1.0), (0.25, 0.25), 10, "compensated"),  # of two they are not: 5.8 are twice the error to assume
        ((1.0,), (0.0,), 10, "int8"),  # no error at all of one sample says nothing of others
        ((1.0,), (1.0,), 10, "compensated"),
    ],
)
def test_few_samples_decide_where_the_gain_is_large(
    before: tuple[float, ...], after: tuple[float, ...], elements: int, kept: str
) -> None:
    def judged(errors: tuple[float, ...]) -> Quality:
        count = len(errors) * elements
        closeness = Closeness(len(errors), count, 10.0, 0.99, math.sqrt(sum(errors) / count), 1.0, None, 1.0)
        tensor = TensorQuality("y", 0, "FULLY_CONNECTED", closeness, errors)
        return Quality(len(errors), (), (tensor,), (tensor,))

    assert choose({"int8": judged(before), "compensated": judged(after)}).name == kept


def test_what_one_sample_shows_is_said_with_the_error_to_assume() -> None:
    closeness = [Closeness(1, 10, 10.0, 0.99, math.sqrt(e / 10), 1.0, None, 1.0) for e in (1.0, 0.5)]
    before, after = (
        Quality(1, (), (tensor,), (tensor,))
        for tensor in (TensorQuality("y", 0, "", c, (e,)) for c, e in zip(closeness, (1.0, 0.5), strict=True))
    )
    reason = choose({"plain": before, "compensated": after}).reason
    # Ten elements account for 2.89 dB, and samples differ by 3.
    assert "10.00 dB compensated (+3.01 ± 4.17, no more than chance); on 1 held-out sample" in reason
