from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from edgeqwt.benchmark.pace import KINDS, measure, relative
from edgeqwt.widths.precision import OpTimes
from tests import small


def test_times_are_relative_to_a_multiplication() -> None:
    # 100 us for the 8-bit convolution of 16 x 16 x 32 values: 9 x 32 multiplications each, so 42.4 ps for one.
    found = relative({**dict.fromkeys(KINDS, 100e-6), "w4a8": 250e-6, "copy": 1e-3, "element16": -1e-6})
    assert (found["w4a8"], found["w8a16"], found["element16"]) == (2.5, 1.0, 0.01)
    assert found["element"] == 18.0  # 100 us / 131072 elements / 42.4 ps
    assert found["copy"] == 90.0  # 1 ms for two copies of them


def test_kernels_of_this_machine_are_measured() -> None:
    found = measure(runs=5, seconds=3.0)
    assert isinstance(found, OpTimes)
    # No 16-bit convolution is near XNNPACK's 8-bit one on any machine that was seen: 36 to 59 times its time.
    assert found.w8a16 > 5


def test_the_command_prints_a_table_of_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = small.command(tmp_path, monkeypatch, capsys)
    code, out, _ = command("bench", "--calibrate-pace", "--runs", "5")
    assert code == 0
    assert tomllib.loads(out)["mixed"]["op_times"].keys() == asdict(OpTimes()).keys()
    assert "bench needs a FILE" in command.refused(2, "bench")
