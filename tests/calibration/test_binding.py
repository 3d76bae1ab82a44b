from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.binding import bound, inputs_of, label_name, positional
from edgeqwt.errors import InputError

IMAGE, MASK, CLASSES = np.zeros((2, 3)), np.ones((2, 3)), np.array([4, 5])


def test_a_loaders_pair_of_images_and_labels() -> None:
    found = bound(positional([IMAGE, CLASSES]), ["x"], ["x"], "loader")
    assert found["x"] is IMAGE
    assert found["labels"] is CLASSES
    assert set(inputs_of(found, ["x"])) == {"x"}


def test_labels_are_not_taken_for_an_optional_input() -> None:
    assert set(bound(positional([IMAGE, CLASSES]), ["x", "mask"], ["x"], "loader")) == {"x", "labels"}
    assert set(bound(positional([IMAGE, MASK]), ["x", "mask"], ["x"], "loader")) == {"x", "mask"}


def test_two_inputs_and_labels() -> None:
    found = bound(positional([IMAGE, MASK, CLASSES]), ["x", "mask"], ["x", "mask"], "loader")
    assert found["mask"] is MASK
    assert found["labels"] is CLASSES


def test_integers_are_an_input_where_the_model_needs_two() -> None:
    assert set(bound(positional([IMAGE, CLASSES]), ["x", "index"], ["x", "index"], "loader")) == {"x", "index"}


def test_targets_of_any_kind_behind_the_only_input() -> None:
    assert set(bound(positional([IMAGE, MASK]), ["x"], ["x"], "loader")) == {"x", "labels"}


def test_named_arrays_keep_their_names() -> None:
    sample = {"x": IMAGE, "label": CLASSES}
    assert bound(sample, ["x"], ["x"], "file") == sample
    assert set(inputs_of(sample, ["x"])) == {"x"}
    assert set(inputs_of(sample, ["x", "label"])) == {"x", "label"}


def test_arrays_that_numpy_named_are_in_order() -> None:
    many = {f"arr_{i}": np.full((2, 3), i) for i in (10, 2, 1, 0, *range(3, 10), 11)}
    inputs = [f"in{i}" for i in range(12)]
    assert [found[0, 0] for found in (bound(many, inputs, inputs, "file")[name] for name in inputs)] == [*range(12)]
    assert bound({"arr_0": IMAGE}, ["x"], ["x"], "file") == {"x": IMAGE}
    assert set(bound({"arr_0": IMAGE, "labels": CLASSES}, ["x"], ["x"], "file")) == {"x", "labels"}
    assert set(bound({"arr_0": IMAGE, "arr_1": CLASSES}, ["x"], ["x"], "file")) == {"x", "labels"}
    assert label_name({"arr_0": IMAGE, "arr_1": CLASSES}) == "arr_1"
    # An input of that name is that array.
    assert bound({"arr_1": IMAGE, "arr_0": MASK}, ["arr_1", "arr_0"], ["arr_1", "arr_0"], "file")["arr_1"] is IMAGE


def test_the_only_array_is_the_only_input() -> None:
    assert bound({"images": IMAGE}, ["x"], ["x"], "file") == {"x": IMAGE}
    assert set(bound({"images": IMAGE, "labels": CLASSES}, ["x"], ["x"], "file")) == {"x", "labels"}
    assert set(bound({"images": IMAGE, "mask": MASK}, ["x", "mask"], ["x"], "file")) == {"x", "mask"}
    unclear = {"images": IMAGE, "masks": MASK}
    assert bound(unclear, ["x"], ["x"], "file") == unclear  # refused where names are checked
    assert bound({"images": IMAGE}, ["x", "y"], ["x", "y"], "file") == {"images": IMAGE}


def test_an_array_without_a_name_and_a_folders_classes() -> None:
    found = bound({NAMELESS: IMAGE, "labels": CLASSES}, ["x"], ["x"], "folder")
    assert set(found) == {"x", "labels"}


@pytest.mark.parametrize("arrays", [[IMAGE], [IMAGE, MASK, MASK, MASK]])
def test_numbers_that_fit_no_inputs(arrays: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="the model has 2 inputs: 'a', 'b'"):
        bound(positional(arrays) if len(arrays) > 1 else {NAMELESS: arrays[0]}, ["a", "b"], ["a", "b"], "loader")
