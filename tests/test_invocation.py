"""Arguments of the Python API that cannot be meant are named before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.recipe.recipe import load
from tests.small import images, write

WRONG: dict[str, Any] = {
    "target": None, "output": 3, "recipe": None, "precision": 8, "mixed": 3, "layers": ["head.*"], "ranges": 3,
    "compensation": "no", "preserve": "sparsity", "interface": 3, "outputs": 3, "samples": "8", "batch_size": "2",
    "sequence_length": "64", "states": "none", "converter": None, "work": 3, "overwrite": "no", "budget": 3,
    "min_quality": "10", "time_budget": "5m", "memory": "4GiB", "device": 3, "display": 3, "onnx2tf_python": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_arguments_of_other_types_are_named(tmp_path: Path, name: str) -> None:
    model = write(tmp_path).model
    given: dict[str, Any] = {"calibration": images(8), name: WRONG[name]}
    with pytest.raises(InputError) as caught:
        edgeqwt.build(model, **given)
    assert caught.value.message == f"build: {name} is of type {type(WRONG[name]).__name__}"
    assert "help(edgeqwt.build)" in caught.value.hint


@pytest.mark.parametrize("states", [[1], ["ab"], [("a",)], [("a", "b")]])
def test_states_that_are_none(tmp_path: Path, states: Any) -> None:
    with pytest.raises(EdgeqwtError):
        edgeqwt.build(write(tmp_path).model, calibration=images(8), states=states)


def test_what_fits_is_taken(tmp_path: Path) -> None:
    files = write(tmp_path)
    result = edgeqwt.build(
        files.model,
        calibration=images(8),
        recipe=load("fast"),
        samples=np.int64(8),  # type: ignore[arg-type]
        min_quality=np.float32(-50),  # type: ignore[arg-type]
        overwrite=np.bool_(True),  # type: ignore[arg-type]
    )
    assert result.samples == 8


@pytest.mark.parametrize("model", [None, 3, [], object()])
def test_what_is_no_model_in_python(model: object) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError):
        edgeqwt.build(model, calibration=images(8))
