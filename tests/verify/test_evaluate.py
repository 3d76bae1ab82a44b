from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.verify.evaluate import check_metric, evaluate, open_evaluation, stacked, top1, try_metric
from tests.verify.helpers import as_source

Images = Mapping[str, npt.NDArray[Any]]
COUNT = 40


@pytest.fixture(scope="module")
def graphs(mlperf_tiny: Path) -> dict[str, Graph]:
    """MLPerf Tiny's image classification."""
    kind = "image_classification"
    return {
        "float": flatbuffer.read(mlperf_tiny / f"{kind}_float32.tflite"),
        "int8": flatbuffer.read(mlperf_tiny / f"{kind}_int8.tflite"),
    }


@pytest.fixture(scope="module")
def model(graphs: dict[str, Graph]) -> ConvertedModel:
    return as_source(graphs["float"])


@pytest.fixture
def arrays(cifar10: Images) -> dict[str, npt.NDArray[Any]]:
    pick = slice(0, 10000, 10000 // COUNT)  # the test images are sorted by class
    return {"input_1": cifar10["test_images"][pick].astype(np.float32), "labels": cifar10["test_labels"][pick]}


def _score(model: ConvertedModel, graphs: dict[str, Graph], source: Any, metric: Any = None, **more: Any) -> Any:
    return evaluate(open_evaluation(source, metric, model), model, graphs, **more)


def test_top1_is_the_share_of_right_classes(
    model: ConvertedModel, graphs: dict[str, Graph], arrays: dict[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    np.savez(tmp_path / "test.npz", **arrays)
    calls: list[None] = []
    scores = _score(model, graphs, tmp_path / "test.npz", "top1", on_sample=lambda: calls.append(None))
    right = [
        model.run_source({"input_1": image[None]})["Identity"].argmax() == label
        for image, label in zip(arrays["input_1"], arrays["labels"], strict=True)
    ]
    assert scores["float"] == {"top1": np.mean(right)}
    assert 0.7 < scores["int8"]["top1"] <= 1
    assert len(calls) == COUNT
    assert scores == _score(model, graphs, arrays, None, threads=1)


def test_a_metric_of_the_users(
    model: ConvertedModel, graphs: dict[str, Graph], arrays: dict[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "def spread(outputs, extras):\n"
        "    p = outputs['Identity']\n"
        "    assert p.shape == (40, 10) and p.dtype == 'float32' and extras['weight'].shape == (40, 2)\n"
        "    extras['labels'] *= 0\n"  # must not reach the next variant
        "    p += 1\n"
        "    return {'sum': (p - 1).sum(), 'weight': extras['weight'].mean()}\n"
    )
    data = {**arrays, "weight": np.ones((COUNT, 2))}
    scores = _score(model, graphs, data, f"{script}:spread")
    assert set(scores["int8"]) == {"sum", "weight"}
    # Each row of softmax sums to 1, to 10 roundings of 1/256 / 2 in int8.
    assert scores["float"]["sum"] == pytest.approx(COUNT, abs=1e-3)
    assert scores["int8"]["sum"] == pytest.approx(COUNT, abs=COUNT * 10 / 512)
    assert scores["float"]["weight"] == 1
    again = _score(model, graphs, data, lambda outputs, extras: float(extras["labels"].sum()))
    assert again["float"]["<lambda>"] == again["int8"]["<lambda>"] == arrays["labels"].sum()


def test_an_error_of_the_metric_names_its_line(
    model: ConvertedModel, graphs: dict[str, Graph], arrays: dict[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    script = tmp_path / "mine.py"
    script.write_text("def score(outputs, extras):\n    return extras['no']\n")
    with pytest.raises(InputError, match=r"metric .*mine.py:score raised KeyError: 'no' \(.*mine.py:2\)"):
        _score(model, graphs, arrays, f"{script}:score")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned nothing"),
        ("'good'", "returned a str"),
        ("outputs['Identity']", r"returned an array of shape \(40, 10\)"),
        ("{'a': [1, 2]}", "returned a list for 'a'"),
    ],
)
def test_a_metric_that_returns_no_number(
    model: ConvertedModel,
    graphs: dict[str, Graph],
    arrays: dict[str, npt.NDArray[Any]],
    tmp_path: Path,
    returned: str,
    message: str,
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(f"def score(outputs, extras):\n    return {returned}\n")
    with pytest.raises(InputError, match=f"metric score {message}"):
        _score(model, graphs, arrays, f"{script}:score")


def test_metrics_that_do_not_exist(model: ConvertedModel, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with pytest.raises(InputError, match="there is no metric 'accuracy'"):
        open_evaluation(arrays, "accuracy", model)
    with pytest.raises(InputError, match="there is no file"):
        open_evaluation(arrays, "no_such_file.py:score", model)


@pytest.mark.parametrize(
    ("arrays", "metric", "said"),
    [
        ({"x": np.zeros((2, 3))}, None, "needs an array 'labels' .* arrays there: 'x'"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(2)}, "top1", "'labels' of .* is of float64"),
        ({"x": np.zeros((2, 3))}, "no_such_file.py:score", "there is no file"),
        ({"x": np.zeros((2, 3)), "label": np.zeros(2, np.int64)}, None, ""),
        ([(np.zeros((2, 3)), np.zeros(2, np.int64))], None, ""),
    ],
)
def test_mistakes_that_are_found_before_the_conversion(arrays: Any, metric: str | None, said: str) -> None:
    data = open_samples(arrays)
    if not said:
        check_metric(data, metric)
        return
    with pytest.raises(InputError, match=said):
        check_metric(data, metric)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs an array 'labels' .* arrays there: none"),
        (np.zeros(COUNT, np.float32), "does not fit output 'Identity'"),
        (np.zeros((COUNT, 3), np.int64), "does not fit output 'Identity'"),
        (np.full(COUNT, 10), "go from 10 to 10, but output 'Identity' has 10 classes"),
    ],
)
def test_labels_that_do_not_fit(
    model: ConvertedModel,
    graphs: dict[str, Graph],
    arrays: dict[str, npt.NDArray[Any]],
    labels: npt.NDArray[Any] | None,
    message: str,
) -> None:
    data = {"input_1": arrays["input_1"]} | ({} if labels is None else {"labels": labels})
    with pytest.raises(InputError, match=message):
        _score(model, graphs, data)


def test_data_that_does_not_fit_the_model(
    model: ConvertedModel, graphs: dict[str, Graph], arrays: dict[str, npt.NDArray[Any]]
) -> None:
    with pytest.raises(InputError, match="sample 0 of the evaluation data lacks 'input_1'"):
        _score(model, graphs, {"image": arrays["input_1"], "more": arrays["input_1"], "labels": arrays["labels"]})
    with pytest.raises(InputError, match="sample 0: input 'input_1' has shape"):
        _score(model, graphs, {**arrays, "input_1": arrays["input_1"].transpose(0, 3, 1, 2)})
    broken = arrays["input_1"].copy()
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="sample 3: input 'input_1' has 1 NaN"):
        _score(model, graphs, {**arrays, "input_1": broken})


def test_outputs_come_in_the_layout_of_the_source(
    graphs: dict[str, Graph], arrays: dict[str, npt.NDArray[Any]]
) -> None:
    """The first layer's map, (1, 32, 32, 16) in the graph, as (1, 16, 32, 32)."""
    graph = replace(graphs["float"], outputs=graphs["float"].ops[0].outputs)
    model = as_source(graph)
    (output,) = model.outputs
    turned = replace(model, outputs=(replace(output, permutation=(0, 2, 3, 1)),))
    shapes: list[tuple[int, ...]] = []

    def metric(outputs: Any, extras: Any) -> float:
        shapes.append(outputs[output.spec.name].shape)
        return 0.0

    _score(turned, {"float": graph}, {"input_1": arrays["input_1"][:3]}, metric)
    assert shapes == [(3, 16, 32, 32)]


def test_top1_of_pixels_has_classes_where_torch_has_them() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    assert top1({"map": values}, {"labels": values.argmax(1)}) == 1
    assert top1({"map": np.moveaxis(values, 1, -1)}, {"labels": values.argmax(1)}) == 1
    square = np.random.default_rng(0).normal(size=(2, 4, 4, 4))  # either axis fits: the last one is it
    assert top1({"map": square}, {"labels": square.argmax(-1)}) == 1


def test_a_metric_is_tried_on_a_few_samples_and_on_all_where_it_needs_them(
    model: ConvertedModel, arrays: dict[str, npt.NDArray[Any]]
) -> None:
    seen: list[int] = []

    def metric(outputs: Any, extras: Any) -> float:
        seen.append(len(extras["labels"]))
        return float(extras["labels"][10])  # there is none among the first few

    try_metric(open_evaluation(arrays, metric, model), model)
    assert seen == [8, COUNT]
    with pytest.raises(InputError, match="KeyError"):
        try_metric(open_evaluation(arrays, lambda outputs, extras: outputs["classes"], model), model)
    with pytest.raises(InputError, match="does not fit output"):
        try_metric(open_evaluation({**arrays, "labels": np.zeros((COUNT, 3), np.int64)}, None, model), model)


def test_stacking() -> None:
    samples = [{"row": np.ones((1, 3)), "number": np.array(2), "vector": np.ones(5), "label": np.array([7])}] * 2
    assert {name: a.shape for name, a in stacked(samples).items()} == {
        "row": (2, 3),
        "number": (2,),
        "vector": (2, 5),
        "label": (2,),
    }
