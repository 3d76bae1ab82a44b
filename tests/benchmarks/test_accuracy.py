"""The comparison with the peers: its pure parts."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of benchmarks/accuracy, as `python -m accuracy` in benchmarks/ would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"accuracy.{name}")

    yield load
    for name in [name for name in sys.modules if name.split(".")[0] == "accuracy"]:
        del sys.modules[name]


def test_every_method_is_known_by_one_name(accuracy: Any) -> None:
    labels = [method.label for method in accuracy("plan").METHODS]
    assert len(set(labels)) == len(labels)


def test_every_method_has_its_script_and_its_pinned_requirements(accuracy: Any) -> None:
    for method in accuracy("plan").METHODS:
        assert method.program.is_file()
        if method.requirements is not None:
            lines = method.requirements.read_text().splitlines()
            assert lines
            assert all("==" in line for line in lines)


def test_methods_are_chosen_by_the_beginning_of_their_label(accuracy: Any) -> None:
    plan = accuracy("plan")
    names = [m.name for m in plan.chosen(plan.METHODS, ["aimet/SeqMSE", "tflite_converter/16x8"], long=False)]
    assert names == ["16x8", "SeqMSE, SQNR", "SeqMSE, SQNR"]


def test_long_methods_run_where_asked_for(accuracy: Any) -> None:
    plan = accuracy("plan")
    assert not any(m.long for m in plan.chosen(plan.METHODS, [], long=False))
    assert plan.chosen(plan.METHODS, [], long=True) == plan.METHODS


def test_a_name_that_fits_nothing_is_an_error(accuracy: Any) -> None:
    plan = accuracy("plan")
    with pytest.raises(ValueError, match="nothing is called tensorrt; there are ai_edge_quantizer, aimet"):
        plan.chosen(plan.METHODS, ["tensorrt"], long=False)


def test_the_table_shows_what_failed_and_what_has_not_run(accuracy: Any) -> None:
    plan, table = accuracy("plan"), accuracy("table")
    good, bad, missing = plan.chosen(plan.METHODS, ["edgeqwt/"], long=False)[:3]
    jobs_record = {"commit": "abc1234", "failure": "", "seconds": 12.3, "peak_mib": 456.7}
    records = {
        good.label: _Record(accuracy=0.81, agreement=0.99, sqnr=31.456, **jobs_record),
        bad.label: _Record(accuracy=None, agreement=None, sqnr=None, **{**jobs_record, "failure": "a | b"}),
    }
    rows = table.rows([bad, missing, good], records)
    assert [row[0] for row in rows] == ["w8a8", "w4a8", "w8a16"]
    assert rows[0][4:] == ("0.8100", "0.9900", "31.46", "12", "457", "abc1234")
    assert rows[1][4:] == ("failed: a | b", "", "", "", "", "abc1234")
    assert rows[2][4:] == ("not run", "", "", "", "", "")
    lines = table.markdown(rows).splitlines()
    assert len(lines) == 5
    assert "a \\| b" in lines[3]


def test_the_last_line_of_a_log_is_not_a_progress_bar(accuracy: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("Traceback\nValueError: no scales\n\r 40%|####   | 4/10\r 50%|#####  | 5/10\n\n")
    assert accuracy("children").last_line(log) == "ValueError: no scales"


def test_a_child_that_fails_says_why(accuracy: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; raise SystemExit(os.environ['TOLD'])"]
    with pytest.raises(RuntimeError, match="no such model"):
        accuracy("children").child(command, tmp_path / "log", 60, tmp_path, {"TOLD": "no such model"})


def test_a_child_is_stopped_at_its_limit_with_all_that_it_started(accuracy: Any, tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > started; wait"
    with pytest.raises(RuntimeError, match="time limit"):
        accuracy("children").child(["bash", "-c", script], tmp_path / "log", 2, tmp_path, {})
    state = Path(f"/proc/{(tmp_path / 'started').read_text().strip()}/stat")

    def gone() -> bool:  # as soon as somebody collects it: until then a zombie
        return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"

    deadline = time.monotonic() + 10  # on a busy machine the signal is delivered later
    while not gone() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone()


class _Record:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
