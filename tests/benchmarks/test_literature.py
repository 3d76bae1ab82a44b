"""The tables of the literature: every technique and method has its row, and what is compared is what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeqwt.recipe.recipe import load
from edgeqwt.simulation.methods import METHODS

pytestmark = pytest.mark.requires("torch")


@pytest.fixture
def files(script: Callable[[str], ModuleType]) -> ModuleType:
    """benchmarks/literature_files.py."""
    return script("literature_files")


def test_a_row_for_each_technique_and_each_method(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["literature.py", "--table"])
    script("literature").main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {*METHODS} - {"plain", "percentile", "mse"} <= {name for row in rows for name in row}
    for name in ("lapq", "power_of_two_ranges", "power_of_two_weight_scales", "aespa", "fima_q", "codebook", "mrem"):
        assert any(name in row and "files" in row for row in rows), name


def test_what_a_technique_is_compared_with(files: ModuleType) -> None:
    balanced = load("balanced")
    assert {"lapq", "power_of_two_ranges", "erq", "mrem", "cwac"} <= {*files.names()}
    for name in files.names():
        alone, within = files.recipes(name, balanced)
        assert [t.name for t in alone[1].techniques][-1] == name
        part = name in {t.name for t in balanced.techniques}
        assert within[0] == ("without" if part else "added")
        assert (name in {t.name for t in within[1].techniques}) is not part


def test_a_row_takes_the_place_of_that_of_the_same_technique(
    files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MEASURED", tmp_path / "measured.json")
    about = {"network": "one", "precision": "w4a8", "nothing": 10.0, "balanced": 20.0}
    for row in ({"technique": "a", "alone": 1.0}, {"technique": "b", "alone": 2.0}, {"technique": "a", "alone": 3.0}):
        files.written(about, row)
    files.written({**about, "network": "other"}, {"technique": "a", "alone": 4.0})
    first, second = json.loads(files.MEASURED.read_text(encoding="utf-8"))
    assert first["rows"] == [{"technique": "a", "alone": 3.0}, {"technique": "b", "alone": 2.0}]
    assert second["rows"] == [{"technique": "a", "alone": 4.0}]


def test_heads_of_a_product_stand_as_channels_of_the_values(script: Callable[[str], ModuleType]) -> None:
    values = np.arange(2 * 5 * 6, dtype=np.float64).reshape(2, 5, 6)  # samples, tokens, 2 heads of 3 channels
    heads = values.reshape(2, 5, 2, 3).swapaxes(1, 2)[:, None]
    np.testing.assert_array_equal(script("cwac_targets").by_channel(heads), values)
