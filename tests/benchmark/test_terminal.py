from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgeqwt.benchmark.result import BenchResult, Check, Figure, OpCost, OpDifference
from edgeqwt.benchmark.terminal import COSTLIEST, said, show_bench, write_bench
from edgeqwt.errors import InputError
from tests.benchmark.test_result import RESULT, valid

NPU = replace(
    RESULT,
    figures=(Figure("cycles_total", "", 1234, "cycles"),),
    op_costs=(OpCost("Conv2D", "y", "NPU", 1234, "cycles"), OpCost("Gelu", "z", "CPU", 0, "cycles")),
    checks=(Check("every op runs on the NPU", False, "1 of 2"),),
    notes=("An estimate.",),
)


def shown(*results: BenchResult, width: int = 80) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    show_bench(out, results)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def test_figures_checks_and_notes_are_there() -> None:
    lines = shown(RESULT)
    assert lines[1] == "a.tflite, 1,000 bytes, on host: measured"
    assert "latency_min  xnnpack  2.000 ms" in lines
    assert "ok            it is so: seen" in lines


def test_what_does_not_hold_and_what_is_not_known_is_reported() -> None:
    lines = shown(NPU)
    assert "FAILED        every op runs on the NPU: 1 of 2" in lines
    assert "note          An estimate." in lines
    (gelu,) = [line for line in lines if line.startswith("z ")]
    assert gelu.split() == ["z", "Gelu", "CPU", "–"]  # Vela does not estimate the CPU


def test_ops_that_differ_are_named() -> None:
    known = OpDifference("FULLY_CONNECTED", 3, "logits", 4000, 2, 1.0, True)
    lines = shown(replace(RESULT, differences=(known, replace(known, kind="ADD", known=False))), width=100)
    assert "known         FULLY_CONNECTED #3 'logits': 2 of 4,000 values differ, by 1 at most" in lines
    assert any(line.startswith("DIFFERENT     ADD #3") for line in lines)


def test_the_costliest_ops_come_first_and_the_rest_is_counted() -> None:
    costs = tuple(OpCost("ADD", f"op{i}", "CPU", i * 1e-3, "s") for i in range(COSTLIEST + 2))
    lines = shown(replace(RESULT, op_costs=costs))
    assert f"the {COSTLIEST} costliest of {COSTLIEST + 2} ops" in lines
    named = [line.split()[0] for line in lines if line.startswith("op")]
    assert named == [f"op{i}" for i in range(COSTLIEST + 1, 1, -1)]


def test_two_results_have_ratios_where_they_can() -> None:
    other = replace(NPU, bytes=500, figures=(Figure("cycles_total", "", 0, "cycles"),))
    lines = shown(NPU, other)
    assert next(line for line in lines if line.startswith("file")).split()[-1] == "2.0000"
    assert lines[-1].split() == ["cycles_total", "1,234", "cycles", "0", "cycles", "–"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    long = replace(NPU, op_costs=(OpCost("Conv2D", "model/" * 40 + "last", "NPU", 1, "cycles"),), notes=("word " * 50,))
    lines = shown(long, long, width=width)
    assert max(map(len, lines)) <= width
    assert any("last" in line for line in lines)  # of a long name the end is shown


def test_figures_have_units() -> None:
    assert [said(0.00123, "s"), said(12345.6, "B")] == ["1.230 ms", "12,346 B"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_bench([RESULT, NPU], path)
    assert valid(json.loads(path.read_text("utf-8")))["compared"]["other"]["file"] == "a.tflite"
    (tmp_path / "link.json").symlink_to(path)
    write_bench([RESULT], tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert "compared" not in json.loads(path.read_text("utf-8"))
    (tmp_path / "folder").mkdir()
    for judged in (tmp_path / "folder", tmp_path / "bench.json" / "bench.json"):
        with pytest.raises(InputError, match="cannot be written"):
            write_bench([RESULT], judged)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "folder", "link.json"]
