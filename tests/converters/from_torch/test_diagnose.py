from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeqwt.converters.from_torch.diagnose import first_run
from edgeqwt.converters.from_torch.source import from_module
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

torch.manual_seed(0)
CONV = torch.nn.Conv2d(3, 4, 3)
GRAY = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
PIXELS = (IMAGE * 30 + 120).astype(np.uint8)


@pytest.mark.parametrize(
    ("module", "array", "message", "hint"),
    [
        (CONV, IMAGE.transpose(0, 2, 3, 1), "channels first", "transpose(0, 3, 1, 2)"),
        (CONV, PIXELS, "it takes floats", "astype('float32') where the model scales"),
        (CONV, PIXELS.transpose(0, 2, 3, 1), "floats, and channels first", "scale pixels"),
        (GRAY, IMAGE[:, 0], "one more axis, for channels", "array[:, None]"),
        (torch.nn.Embedding(9, 2), np.ones((1, 4), np.float32), "it takes integers", "int64"),
    ],
)
def test_the_slip_is_named(module: torch.nn.Module, array: Array, message: str, hint: str) -> None:
    sample = {"input": array}
    with pytest.raises(InputError, match=message) as caught:
        first_run(from_module("m", module, sample), sample)
    assert str(array.shape) in caught.value.message
    assert hint in caught.value.hint


def test_other_failures_say_what_forward_was_given() -> None:
    sample = {"input": np.zeros((1, 5, 8, 8), np.float32)}
    with pytest.raises(InputError, match="forward raised RuntimeError") as caught:
        first_run(from_module("m", CONV, sample), sample)
    assert caught.value.message.endswith("; it was given 'input' (1, 5, 8, 8) float32")
    assert "axis 0" in caught.value.hint


class Number(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> float:
        return 3.0


def test_what_is_no_tensor_is_no_fault_of_the_sample() -> None:
    sample = {"x": IMAGE}
    with pytest.raises(InputError, match=r"returns float, which is no tensor$"):
        first_run(from_module("m", Number(), sample), sample)


def test_what_fits_runs() -> None:
    sample = {"input": IMAGE}
    assert first_run(from_module("m", CONV, sample), sample)["output"].shape == (1, 4, 6, 6)
