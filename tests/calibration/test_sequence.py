from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.sequence import Sequences
from edgeqwt.calibration.sources import open_samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

TOKENS = Sequences(4, {"ids": 1, "mask": 1})


def sentences(*lengths: int) -> Samples:
    """Ids 1, 2, 3, ... and a mask of ones, as long as said; an image beside them."""
    image = np.zeros((1, 3, 8, 8), np.float32)
    return open_samples([{"ids": ids(n), "mask": np.ones((1, n), np.int32), "image": image} for n in lengths])


def ids(length: int) -> Array:
    return np.arange(1, length + 1, dtype=np.int64)[None]


def test_sequences_are_cut_at_the_end_and_padded_there_with_zeros() -> None:
    short, right, long = TOKENS.of(sentences(2, 4, 7))
    np.testing.assert_array_equal(short["ids"], [[1, 2, 0, 0]])
    np.testing.assert_array_equal(short["mask"], [[1, 1, 0, 0]])
    for sample in (right, long):
        np.testing.assert_array_equal(sample["ids"], [[1, 2, 3, 4]])
        np.testing.assert_array_equal(sample["mask"], [[1, 1, 1, 1]])
    assert {sample["ids"].dtype.name for sample in (short, right, long)} == {"int64"}
    assert short["image"].shape == (1, 3, 8, 8)


def test_the_stream_can_be_read_again_and_knows_its_length() -> None:
    samples = TOKENS.of(sentences(2, 7))
    assert [sample["ids"].shape for sample in (*samples, *samples)] == [(1, 4)] * 4
    assert TOKENS.of(open_samples({"ids": np.ones((9, 2), np.int32)})).count == 9


def test_an_array_without_a_name_is_the_only_sequence() -> None:
    [sample] = Sequences(4, {"ids": 1}).of(open_samples([ids(2)]))
    np.testing.assert_array_equal(sample[NAMELESS], [[1, 2, 0, 0]])


def test_axes_that_were_found_without_a_name_get_the_inputs() -> None:
    assert Sequences(4, {NAMELESS: 1}).named(["ids"]) == Sequences(4, {"ids": 1})
    assert TOKENS.named(["ids", "mask"]) == TOKENS


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_other_numbers_than_integers_are_cut_and_not_padded(dtype: type[np.generic]) -> None:
    samples = open_samples([{"x": np.ones((1, 3, n), dtype)} for n in (4, 2)])
    sequences = Sequences(3, {"x": 2})
    assert sequences.of(samples).first()["x"].shape == (1, 3, 3)
    with pytest.raises(InputError, match=r"sample 1: 'x' is 2 long, and how \w+ is padded to 3 is not known"):
        list(sequences.of(samples))


def test_the_note_names_the_inputs() -> None:
    assert TOKENS.note() == (
        "sequences are 4 long: longer ones were cut, shorter ones padded with 0, in 'ids' (axis 1), 'mask' (axis 1)"
    )
