"""The comparison of whole builds with other tools, and how cost grows: their pure parts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")
Load = Callable[[str], ModuleType]


def test_samples_come_back_in_order_and_as_the_float_file_takes_them(script: Load, tmp_path: Path) -> None:
    work = script("accuracy.peers.work")
    ids, images = np.arange(6).reshape(2, 3), np.arange(48.0).reshape(2, 3, 2, 4)
    work.save_arrays(tmp_path / work.CALIBRATION, {"tokens": ids, "image": images})
    inputs = work.Inputs(tmp_path)
    assert [part.shape for part in inputs.calibration] == [ids.shape, images.shape]
    assert [[len(part) for part in batch] for batch in inputs.calibration_batches(1)] == [[1, 1], [1, 1]]
    first, second = inputs.in_file(["serving_image:0", "serving_tokens:0"])
    np.testing.assert_array_equal(first["serving_tokens:0"], ids[:1])
    np.testing.assert_array_equal(second["serving_image:0"], images[1:].transpose(0, 2, 3, 1))


def test_a_command_costs_what_it_takes_and_not_what_this_process_holds(script: Load, tmp_path: Path) -> None:
    held = np.ones(1 << 26)  # 512 MiB
    code = "import time; a = bytearray(50 << 20); t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    found = script("accuracy.cost").cost_of([sys.executable, "-S", "-c", code], tmp_path / "log", 60, tmp_path)
    assert found["status"] == 0
    assert 0.3 <= found["cpu"] <= found["seconds"] + 0.1
    assert 50 < found["mib"] < 200 < held.nbytes / 2**20


def test_a_command_is_stopped_at_its_limit(script: Load, tmp_path: Path) -> None:
    found = script("accuracy.cost").cost_of(["sleep", "60"], tmp_path / "log", 0.5, tmp_path)
    assert found["status"] == -9
    assert 0.5 <= found["seconds"] < 30


def test_the_reason_is_the_last_error_that_a_log_names(script: Load, tmp_path: Path) -> None:
    log, reason = tmp_path / "log", script("build_time").reason
    log.write_text("ValueError: first\nRuntimeError: no such op\nset X=1 for more\n")
    assert reason(log) == "RuntimeError: no such op"
    log.write_text("killed\n")
    assert reason(log) == "killed"


def test_what_must_hold_is_asked_where_it_was_measured(script: Load) -> None:
    module = script("build_time")
    peer = module.Row("ai-edge-quantizer, min-max", "file", (module.Cost(10.0, 9.0, 100),))
    fast = module.Row("edgeqwt, fast", "file", (module.Cost(40.0, 9.0, 100), module.Cost(16.0, 9.0, 100)))
    slow = module.Row("edgeqwt, balanced", "file", (module.Cost(50.0, 9.0, 3000),), quality=20.0)
    lost = module.Row("edgeqwt, balanced", "file", failure="too late")
    network = module.Network("", dict, 64, False, 60, 2.5)
    verdicts = [(r.measured, r.ok) for r in module.bounds("net", [peer, fast, slow], network)]
    assert verdicts == [("1.60", False), ("50.0", True), ("3.15", False)]
    assert len(module.bounds("net", [peer, fast, lost], network)) == 1
    assert module.cells(slow) == ("edgeqwt, balanced", "file", "50.0", "9.0", "3,000", "20.0")
    assert module.cells(lost)[2] == "failed: too late"


def test_an_exponent_is_that_of_a_power(script: Load) -> None:
    numbers = [2, 4, 8, 16]
    assert script("growth").exponent(numbers, [3 * n**1.5 for n in numbers]) == pytest.approx(1.5)
