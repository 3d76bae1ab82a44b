"""The table of techniques: what is in it, and that a row is built and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.passes.context import Context
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe.recipe import checked, load
from edgeqwt.techniques.registry import registered
from edgeqwt.widths.precision import parse
from tests import small

pytestmark = pytest.mark.requires("torch")


@pytest.fixture
def ablation(script: Callable[[str], ModuleType]) -> ModuleType:
    """benchmarks/ablation.py."""
    return script("ablation")


def test_every_technique_has_its_row(ablation: ModuleType) -> None:
    rows = list(ablation.rows())
    names = [(row.group, row.name) for row in rows]
    assert len(set(names)) == len(names)
    assert all(checked(row.recipe) is row.recipe for row in rows)
    left_out = [name for group, name in names if group == "left out"]
    assert {t.name for t in load("balanced").techniques if not t.part_of} <= {*left_out}
    built = {technique.name for row in rows for technique in row.recipe.techniques}
    assert built == {*registered()}


def test_a_row_is_measured(ablation: ModuleType) -> None:
    graph = small.graph()
    model = ConvertedModel(
        graph, (Binding(InputSpec("image", (1, 8, 8, 3), "float32"), graph.inputs[0]),), (), lambda sample: {}
    )
    target = TargetProfile("tflite", "", ("xnnpack",))
    work = Context.of(model, graph, open_samples({"image": small.images(24)}), target)
    images = [image[None] for image in small.images(8, seed=1)]
    wanted = ablation.outputs(graph, images)
    network = ablation.Network("small", work, images, wanted.argmax(1), wanted)
    rows = {f"{row.group}: {row.name}": row for row in ablation.rows()}
    sizes = {}
    for name in ("corrections: gain, offset and scales (CWAC)", "corrections: linear layers (QwT)"):
        row = replace(rows[name], recipe=replace(rows[name].recipe, precision=parse("w3a8")))
        message, sqnr, agreement, accuracy, size, _ = ablation.cells(network, row)
        assert message == name
        assert float(sqnr) > 0
        assert agreement == accuracy  # the labels are the float network's own
        sizes[name] = int(size.replace(",", ""))
    free, paid = sizes.values()
    assert paid > free


def test_rows_are_chosen_by_pattern(ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[str]] = {}
    monkeypatch.setattr(ablation, "NETWORKS", {"resnet20": lambda: None})

    def table(network: None, precision: str, chosen: list[object]) -> None:
        seen[precision] = [f"{row.group}: {row.name}" for row in chosen]  # type: ignore[attr-defined]

    monkeypatch.setattr(ablation, "table", table)
    monkeypatch.setattr("sys.argv", ["ablation.py", "rounding: *", "--precision", "w4a8"])
    ablation.main()
    assert list(seen) == ["w4a8"]
    assert "rounding: gptq" in seen["w4a8"]
    assert all(name.startswith("rounding: ") and "learned" not in name for name in seen["w4a8"])
    monkeypatch.setattr("sys.argv", ["ablation.py", "*: *Fisher*", "--learned"])
    ablation.main()
    assert seen["w8a8"] == ["rounding: learned, block (BRECQ without Fisher)"]
    assert tuple(sorted(seen)) == tuple(sorted(ablation.PRECISIONS))
