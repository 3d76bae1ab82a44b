from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.sources import open_samples
from edgeqwt.calibration.user_samples import from_function, from_iterable, from_spec
from edgeqwt.errors import InputError


def refused(samples: Samples) -> InputError:
    with pytest.raises(InputError) as caught:
        list(samples)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_file_that_yields_dicts(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for i in range(3):\n"
        "        yield {'ids': np.full((1, 2), i), 'mask': [[1, 0]]}\n"
    )
    samples = from_spec(f"{tmp_path / 'data.py'}:samples")
    for _ in range(2):
        assert [s["ids"].tolist() for s in samples] == [[[0, 0]], [[1, 1]], [[2, 2]]]
    assert samples.first()["mask"].tolist() == [[1, 0]]
    assert samples.count is None


def test_single_arrays_are_nameless_and_copied() -> None:
    def samples() -> Iterator[Any]:
        buffer = np.zeros((1, 2))
        for i in range(3):
            buffer[:] = i
            yield buffer

    assert [s[""][0, 0] for s in list(from_function(samples, "f"))] == [0, 1, 2]


def test_a_function_that_returns_a_list() -> None:
    assert len(list(from_function(lambda: [np.zeros((1, 2))] * 4, "f"))) == 4


@pytest.mark.parametrize("labels", [(), (np.int64(1),)])
def test_rows_of_floats_get_a_batch_dimension(labels: tuple[object, ...]) -> None:
    """They were cut into their values; a loader's batch of ids is one."""
    rows = [(np.full(5, i, np.float32), *labels) if labels else np.full(5, i, np.float32) for i in range(3)]
    found = list(open_samples(rows))
    assert [next(iter(sample.values())).shape for sample in found] == [(1, 5)] * 3
    ids = [(np.arange(5), np.arange(5))] * 3
    assert [next(iter(sample.values())).shape for sample in open_samples(ids)] == [(1,)] * 15


def test_a_list_is_read_again_and_again() -> None:
    samples = from_iterable([{"x": np.zeros((1, 2))}] * 3)
    assert [len(list(samples)), len(list(samples))] == [3, 3]


@pytest.mark.requires("torch")
def test_torch_tensors_and_data_loaders() -> None:
    import torch

    data = torch.arange(6.0).reshape(3, 2).requires_grad_()
    samples = from_iterable(torch.utils.data.DataLoader(data, batch_size=1))  # type: ignore[arg-type]
    assert [s[""].tolist() for s in samples] == [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]
    narrow = from_iterable([torch.zeros(1, 2, dtype=torch.bfloat16)])
    assert "is no array of numbers" in refused(narrow).message


@pytest.mark.requires("torch")
def test_a_shuffling_data_loader_is_noticed() -> None:
    import torch

    torch.manual_seed(0)
    data = torch.arange(2000.0).reshape(1000, 2)
    samples = from_iterable(torch.utils.data.DataLoader(data, batch_size=1, shuffle=True))  # type: ignore[arg-type]
    list(samples)
    error = refused(samples)
    assert "sample 0 is not what it was on the pass before" in error.message
    assert "shuffle" in error.hint


def test_other_samples_on_each_pass() -> None:
    rng = np.random.default_rng(0)
    samples = from_function(lambda: [rng.standard_normal((1, 2))], "data.py:samples")
    samples.first()
    assert "calibration function data.py:samples: sample 0 is not what it was" in refused(samples).message


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ([0, 1, 5], "f: sample 2 is not what it was on the pass before"),
        ([0, 1], "f gives only 2 samples, and gave 3 on the pass before"),
        ([], "f gives only 0 samples, and gave 3 on the pass before"),
        ([0, 1, 2, 3], "f gives more samples than the 3 of the pass before"),
    ],
)
def test_a_function_that_changes_behind_the_first_sample(later: list[int], said: str) -> None:
    passes = iter([[0, 1, 2], [0, 1, 2], later])
    samples = from_function(lambda: [np.full((1, 2), k, np.float32) for k in next(passes)], "f")
    assert len(list(samples)) == len(list(samples)) == 3
    error = refused(samples)
    assert said in error.message
    assert "same order" in error.hint


def test_passes_that_stop_early_say_nothing_of_the_number() -> None:
    samples = from_function(lambda: [np.full((1, 2), k, np.float32) for k in range(3)], "f")
    samples.first()
    assert [len(list(samples.head(2))), len(list(samples)), len(list(samples.head(1)))] == [2, 3, 1]


def test_a_generator_object_can_be_read_only_once() -> None:
    with pytest.raises(InputError, match="a generator can be read only once") as caught:
        from_iterable(np.zeros((1, 2)) for _ in range(3))
    assert "function" in caught.value.hint


def test_no_samples() -> None:
    assert "calibration function f has no samples" in refused(from_function(list, "f")).message
    assert "has no samples" in refused(from_iterable([])).message


@pytest.mark.parametrize(
    ("returned", "kind"),
    [(None, "None"), (3, "an int"), ({"x": np.zeros(3)}, "a dict"), (np.zeros(3), "a ndarray"), ("abc", "a str")],
)
def test_a_function_that_returns_no_stream(returned: Any, kind: str) -> None:
    error = refused(from_function(lambda: returned, "f"))
    assert error.message == f"calibration function f returned {kind}, not a stream of samples"
    assert "Yield one sample at a time" in error.hint


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((), "sample 0 is a tuple, which holds no arrays"),
        ((np.zeros(3), "cat"), "element 1 is a str"),
        ([1, 2, 3], "sample 0 is a list, which holds no arrays"),
        (None, "sample 0 is None"),
        (3.0, "sample 0 is a float"),
        ({}, "sample 0 is an empty dict"),
        ({1: np.zeros(3)}, "the key 1, which is not an input name"),
        ({"x": "text"}, "input 'x' is a str with dtype <U4"),
        ({"x": None}, "input 'x' is None with dtype object"),
        ({"x": [[1, 2], [3]]}, "input 'x' is no array of numbers"),
        (np.array(["a"]), "dtype <U1"),
    ],
)
def test_samples_of_the_wrong_kind(value: Any, found: str) -> None:
    assert found in refused(from_iterable([value])).message


def test_tuples_keep_their_order_however_they_nest() -> None:
    (sample,) = from_iterable([((np.zeros(3), np.ones(2)), 1)])
    assert [array.tolist() for array in sample.values()] == [[0, 0, 0], [1, 1], 1]


def test_a_function_that_raises_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "data.py"
    path.write_text("import numpy as np\ndef samples():\n    yield np.zeros((1, 2))\n    raise OSError('disk gone')\n")
    error = refused(from_spec(f"{path}:samples"))
    assert "raised OSError: disk gone" in error.message
    assert "data.py:4)" in error.message


def test_an_object_that_raises_names_the_users_line() -> None:
    class Loader:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return np.zeros(3).reshape(2, 2)

    message = refused(from_iterable(Loader())).message  # type: ignore[arg-type]
    assert "cannot reshape" in message
    assert "test_user_samples.py:" in message


def test_a_pass_that_is_given_up_closes_the_users_generator() -> None:
    closed = []

    def samples() -> Iterator[Any]:
        try:
            while True:
                yield np.zeros((1, 2))
        finally:
            closed.append(True)

    from_function(samples, "f").first()
    assert closed == [True]
