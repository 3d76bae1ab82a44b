"""One model at several widths, converted once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgeqwt
from edgeqwt.errors import InputError, TargetError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.linear import bit_operations
from edgeqwt.sweeps.one_model import PAGE, ROWS
from tests import small


def test_the_front_of_widths(tmp_path: Path) -> None:
    files = small.write(tmp_path)
    given = {"calibration": files.samples, "recipe": "plain"}
    found = edgeqwt.pareto(files.model, **given, output=tmp_path / "out")
    rows = {row.precision: row for row in found.rows}
    assert list(rows) == ["w8a8", "w4a8", "mixed", "w8a16"]
    assert {row.status for row in found.rows} == {"built"}
    saved = rows["w8a8"].bytes - rows["w4a8"].bytes  # type: ignore[operator]
    assert saved > 0
    assert rows["w4a8"].bytes <= rows["mixed"].bytes <= rows["w8a8"].bytes - saved // 2  # type: ignore[operator]
    assert rows["w8a16"].bit_operations == 2 * rows["w8a8"].bit_operations  # type: ignore[operator]
    assert rows["w4a8"].bit_operations < rows["w8a8"].bit_operations  # type: ignore[operator]

    alone = edgeqwt.build(files.model, **given, precision="w8a16", accept=True)
    wide = found.path(rows["w8a16"])
    assert (wide / "model.tflite").read_bytes() == alone.to_bytes()  # as if it had been converted for it alone
    assert bit_operations(flatbuffer.read(wide / "model.tflite")) == rows["w8a16"].bit_operations
    first, other = (json.loads((found.path(rows[p]) / "report.json").read_text()) for p in ("w8a8", "w8a16"))
    assert "prepare" in first["seconds"]
    assert "prepare" not in other["seconds"]
    assert first["parity"] == other["parity"]

    listed = json.loads((tmp_path / "out" / ROWS).read_text())
    kept = {path.name for path in (tmp_path / "out/builds").iterdir()}
    assert kept == {row["precision"] for row in listed if row["best"]}
    assert kept == {row.folder for row in found.rows if row.folder}
    assert "quality over bit operations" in (tmp_path / "out" / PAGE).read_text()


def test_a_width_that_costs_too_much_is_a_row(tmp_path: Path) -> None:
    files = small.write(tmp_path)
    given = {"calibration": files.samples, "recipe": "plain", "output": tmp_path / "out"}
    found = edgeqwt.pareto(files.model, **given, budget=edgeqwt.Budget(flash=1800))
    assert {row.precision: row.status for row in found.rows} == {"w8a8": "failed", "w4a8": "built", "w8a16": "failed"}
    assert "the limit is 1,800" in found.rows[0].message
    before = sorted((tmp_path / "out").iterdir())
    with pytest.raises(TargetError, match="the limit is 100"):
        edgeqwt.pareto(files.model, **given, budget=edgeqwt.Budget(flash=100))
    assert sorted((tmp_path / "out").iterdir()) == before


def test_widths_are_not_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision is not for several widths"):
        edgeqwt.pareto("net.tflite", calibration="x.npz", output=tmp_path / "out", precision="w8a8")
