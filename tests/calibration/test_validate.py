from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.samples import InputSpec, Samples
from edgeqwt.calibration.validate import named, validated
from edgeqwt.errors import InputError

IMAGE = InputSpec("x", (1, 3, 4, 5), "float32")
IDS = InputSpec("ids", (1, None), "int64")


def good(n: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((n, 3, 4, 5)).astype(np.float32)


def refused(samples: Samples, *specs: InputSpec) -> InputError:
    with pytest.raises(InputError) as caught:
        list(validated(samples, specs))
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_good_samples_pass_in_the_models_order() -> None:
    ids = np.arange(12).reshape(4, 3)
    read = list(validated(from_arrays({"ids": ids, "x": good()}), [IMAGE, IDS]))
    assert [list(s) for s in read] == [["x", "ids"]] * 4
    np.testing.assert_array_equal(np.concatenate([s["x"] for s in read]), good())
    np.testing.assert_array_equal(np.concatenate([s["ids"] for s in read]), ids)


def test_count_and_origin_stay() -> None:
    checked = validated(from_arrays({"x": good()}, "data.npz"), [IMAGE])
    assert (checked.count, checked.origin) == (4, "data.npz")


# -- names -----------------------------------------------------------------------


def test_a_nameless_source_serves_the_only_input() -> None:
    assert list(next(iter(validated(from_arrays({"": good()}), [IMAGE])))) == ["x"]
    assert list(next(iter(named(from_arrays({"": good()}), ["y"])))) == ["y"]


def test_a_nameless_source_for_two_inputs() -> None:
    error = refused(from_arrays({"": good()}, "s.npy"), IMAGE, IDS)
    assert error.message == "s.npy has no input names, but the model has 2 inputs: 'x', 'ids'"


def test_missing_and_unknown_names() -> None:
    error = refused(from_arrays({"image": good(), "mask": good()}, "s.npz"), IMAGE)
    assert error.message == "s.npz: sample 0 lacks 'x' and has unknown 'image', 'mask'"
    assert error.hint == "The model's inputs are: 'x'."
    assert "lacks 'ids'" in refused(from_arrays({"x": good()}), IMAGE, IDS).message
    assert "has unknown 'more'" in refused(from_arrays({"x": good(), "more": np.arange(4)}), IMAGE).message


def test_labels_are_no_inputs() -> None:
    samples = validated(from_arrays({"x": good(), "labels": np.arange(4)}), [IMAGE])
    assert set(samples.first()) == {"x"}


# -- shapes ------------------------------------------------------------------------


def test_wrong_shape_names_input_sample_found_and_expected() -> None:
    error = refused(from_arrays({"x": good().reshape(4, 3, 5, 4)}, "s.npz"), IMAGE)
    assert error.message == "s.npz: input 'x' of sample 0 has shape (1, 3, 5, 4), expected (1, 3, 4, 5)"


def test_a_later_sample_is_named_by_its_index() -> None:
    stream = Samples("s", lambda: iter([{"x": good()[:1]}, {"x": good()[:2]}]))
    assert "input 'x' of sample 1 has shape (2, 3, 4, 5)" in refused(stream, IMAGE).message


def test_layout_hints() -> None:
    assert "transpose(0, 3, 1, 2)" in refused(from_arrays({"x": good().transpose(0, 2, 3, 1)}), IMAGE).hint
    nhwc = InputSpec("x", (1, 4, 5, 3), "float32")
    assert "transpose(0, 2, 3, 1)" in refused(from_arrays({"x": good()}), nhwc).hint


def test_missing_batch_dimension_hint() -> None:
    assert "array[None]" in refused(Samples("s", lambda: iter([{"x": good()[0]}])), IMAGE).hint


def test_free_dimensions() -> None:
    lengths = Samples("s", lambda: iter([{"ids": np.zeros((1, n), np.int64)} for n in (1, 7)]))
    assert [s["ids"].shape for s in validated(lengths, [IDS])] == [(1, 1), (1, 7)]
    empty = Samples("s", lambda: iter([{"ids": np.zeros((1, 0), np.int64)}]))
    assert "has shape (1, 0), expected (1, any)" in refused(empty, IDS).message
    rank = Samples("s", lambda: iter([{"ids": np.zeros(3, np.int64)}]))
    assert "has shape (3,), expected (1, any)" in refused(rank, IDS).message


# -- types -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float16", "float32"])
def test_floats_of_any_width_serve_a_float_input(dtype: str) -> None:
    [sample] = validated(from_arrays({"x": good(1).astype(dtype)}), [IMAGE])
    assert sample["x"].dtype == np.float32
    np.testing.assert_array_equal(sample["x"], good(1).astype(dtype).astype(np.float32))


@pytest.mark.parametrize("found", ["int8", "uint8", "int32", "uint64", "bool"])
@pytest.mark.parametrize("expected", ["int32", "int64", "uint8", "bool"])
def test_integers_that_fit_serve_an_integer_input(found: str, expected: str) -> None:
    values = np.array([[0, 1, 1]]).astype(found)
    [sample] = validated(from_arrays({"ids": values}), [InputSpec("ids", (1, 3), expected)])
    assert sample["ids"].dtype == np.dtype(expected)
    assert sample["ids"].astype(int).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 2**31]]), "int32"),
        (np.array([[-1, 0]]), "uint8"),
        (np.array([[0, 2**63]], np.uint64), "int64"),
        (np.array([[0, 2]]), "bool"),
    ],
)
def test_integers_that_do_not_fit(values: Any, expected: str) -> None:
    error = refused(from_arrays({"ids": values}), InputSpec("ids", (1, 2), expected))
    assert f"has values from {values.min()} to {values.max()}, which {expected} cannot hold" in error.message


def test_pixels_for_a_float_input() -> None:
    error = refused(from_arrays({"x": np.zeros((2, 3, 4, 5), np.uint8)}), IMAGE)
    assert "input 'x' of sample 0 is uint8, expected float32" in error.message
    assert "/ 255" in error.hint
    assert "--image" in error.hint


def test_other_integers_and_bools_for_a_float_input() -> None:
    assert "is int64, expected float32" in refused(from_arrays({"x": good().astype(np.int64)}), IMAGE).message
    assert "is bool, expected float32" in refused(from_arrays({"x": good() > 0}), IMAGE).message


def test_floats_for_an_integer_input() -> None:
    assert "is float64, expected int64" in refused(from_arrays({"ids": np.zeros((2, 3))}), IDS).message


# -- values ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(bad: float) -> None:
    x = good()
    x[2, 1, 3, 4] = x[2, 2, 0, 0] = bad
    error = refused(from_arrays({"x": x}, "s.npz"), IMAGE)
    assert error.message == (
        f"s.npz: input 'x' of sample 2 has 2 NaN or infinite values, the first at (0, 1, 3, 4): {bad}"
    )


def test_a_float64_beyond_float32() -> None:
    x = good().astype(np.float64)
    x[1, 0, 0, 0] = 1e300
    assert "sample 1 has values beyond the range of float32" in refused(from_arrays({"x": x}), IMAGE).message


@pytest.mark.parametrize("dtype", ["int4", "resource", "complex64"])
def test_inputs_of_types_that_no_sample_has(dtype: str) -> None:
    error = refused(from_arrays({"x": good()}), InputSpec("x", (1, 3, 4, 5), dtype))
    assert f"is expected to be {dtype}, which is not supported" in error.message


def test_rows_of_states_whose_batch_is_not_the_first_axis() -> None:
    """As of an LSTM: an array of samples has their number in front of what one sample takes."""
    state = InputSpec("h", (2, None, 8), "float32")
    found = list(validated(from_arrays({"h": np.arange(5 * 16, dtype=np.float32).reshape(5, 2, 1, 8)}), [state]))
    assert [sample["h"].shape for sample in found] == [(2, 1, 8)] * 5
    assert found[1]["h"][0, 0, 0] == 16
    assert "has shape (1, 3, 1, 8)" in refused(from_arrays({"h": np.zeros((5, 3, 1, 8), np.float32)}), state).message


def test_rows_of_one_number_serve_an_input_without_axes() -> None:
    scalar = InputSpec("x", (), "float32")
    found = list(validated(from_arrays({"x": np.arange(3.0)}), [scalar]))
    assert [(sample["x"].shape, float(sample["x"])) for sample in found] == [((), 0.0), ((), 1.0), ((), 2.0)]
    assert "has shape (1, 2), expected ()" in refused(from_arrays({"x": np.zeros((3, 2))}), scalar).message
