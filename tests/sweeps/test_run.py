"""Sweeps: failures are rows, what is finished stays; the table, the front, the page; on Ray, with kills on the way."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError
from edgeqwt.sweeps import table
from edgeqwt.sweeps.front import COSTS, best_keys, points
from edgeqwt.sweeps.page import page_html
from edgeqwt.sweeps.run import Sweep, opened
from edgeqwt.sweeps.table import Row
from tests import small

PLAN = """
models = ["float.tflite"]
calibration = ["samples.npz", "other.npz"]
recipes = ["plain", "fast"]
precisions = ["w8a8", "w4a8", "w8a16"]
"""


def row(key: str, db: float | None, size: int, **more: object) -> Row:
    found = Row(key, "net", "samples", "tflite", "fast", key, "built", kept_db=db, bytes=size)
    return replace(found, **more)  # type: ignore[arg-type]


def test_the_front_has_what_nothing_beats() -> None:
    rows = [row("a", 20.0, 100), row("b", 30.0, 200), row("c", 25.0, 200), row("d", 19.0, 150), row("e", None, 1)]
    assert [(p.row.key, p.best) for p in points(rows, COSTS[0])] == [
        ("a", True), ("d", False), ("b", True), ("c", False),
    ]  # fmt: skip
    other = row("f", 1.0, 999, calibration="other")  # judged on other samples: it cannot be compared
    assert best_keys([*rows, other]) == {"a", "b", "f"}


def test_a_table_keeps_what_is_finished(tmp_path: Path) -> None:
    waiting = [replace(row(key, None, 0), status="waiting") for key in "ab"]
    with table.opened(tmp_path / "s") as results:
        results.plan(waiting)
        results.write(row("a", 1.0, 10))
        with pytest.raises(InputError, match="another sweep"), table.opened(tmp_path / "s"):
            pass
        assert [r.status for r in table.read(tmp_path / "s")] == ["built", "waiting"]  # while it runs
    with table.opened(tmp_path / "s") as results:
        results.plan([waiting[1], waiting[0]])
        assert [(r.key, r.status) for r in results.rows()] == [("b", "waiting"), ("a", "built")]
        results.plan(waiting[1:])
    assert [r.key for r in table.read(tmp_path / "s")] == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(InputError, match="no sweep"), table.opened(tmp_path / "mine"):
        pass
    with pytest.raises(InputError, match="holds no sweep"):
        table.read(tmp_path / "mine")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """SQLite ends its transaction by itself then; to end it once more was an error of its own, and of ours."""

    def planned(pages: int) -> None:
        with table.opened(tmp_path / "s") as results:
            results.connection.execute(f"PRAGMA max_page_count = {pages}")
            results.plan([row(f"{k}" * 64, None, 0) for k in range(1000)])

    with pytest.raises(InputError, match="is full") as caught:
        planned(4)
    assert "Free space" in caught.value.hint
    assert table.read(tmp_path / "s") == ()
    planned(1000)
    assert len(table.read(tmp_path / "s")) == 1000


def test_a_page_escapes_names_and_shows_failures() -> None:
    failed = row("c", None, 0, status="failed", message="<b>no</b>", exit_code=7)
    text = page_html(Sweep(Path("s"), (row("a", 20.0, 100), row("b", 30.0, 200), failed)))
    assert "&lt;b&gt;no" in text
    assert "<b>no" not in text
    assert "(exit code 7)" in text
    assert text.count('class="dot best"') == 2


def test_a_page_has_no_empty_columns_and_says_once_what_all_have_in_common() -> None:
    text = page_html(Sweep(Path("s"), (row("a", 20.0, 100), row("b", 30.0, 200))))
    assert re.findall(r"<th class[^>]*>(.*?)</th>", text) == ["build", "widths", "kept, dB", "bytes", "best"]
    assert "Builds: tflite, fast, samples" in text
    assert '<th class="text extra">build' in text  # of one model a phone need not say that in every row


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    small.write(folder)
    np.savez(folder / "other.npz", image=small.images(16, seed=5))
    (folder / "plan.toml").write_text(PLAN)
    return folder


def test_a_failure_is_a_row_and_what_is_finished_stays(files: Path, tmp_path: Path) -> None:
    plan = {
        "models": [str(files / "float.tflite")],
        "calibration": [str(files / "samples.npz"), str(files / "plan.toml")],  # the second is no samples
        "recipes": ["plain"],
    }
    found = edgeqwt.sweep(plan, output=tmp_path / "s", jobs=1)
    good, bad = found.rows
    assert (good.status, good.exit_code, bad.status, bad.exit_code) == ("built", 0, "failed", 2)
    assert bad.message
    assert bad.hint
    folder = found.path(good)
    report = json.loads((folder / "report.json").read_text())
    assert (good.bytes, good.kept) == (report["bytes"][good.kept], report["kept"]["name"])
    assert good.bytes == (folder / "model.tflite").stat().st_size
    assert edgeqwt.sweep(plan, output=tmp_path / "s").rows == found.rows == opened(tmp_path / "s").rows


def read(path: Path) -> bytes:
    """A file of /proc; nothing where its process has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children(process: int) -> list[int]:
    """All processes below one."""
    own = [int(c) for path in Path(f"/proc/{process}/task").glob("*/children") for c in read(path).split()]
    return [process, *(c for child in own for c in children(child))]


def workers(process: int) -> list[int]:
    """Ray's workers below a process that have a build to do."""
    return [c for c in children(process) if b"ray::_task" in read(Path(f"/proc/{c}/cmdline"))]


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path."""
    with TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.requires("ray")
def test_a_cluster_builds_the_same_bytes_whatever_is_killed(files: Path, tmp_path: Path, short: Path) -> None:
    sequence = edgeqwt.sweep(files / "plan.toml", output=tmp_path / "sequence", jobs=1)
    assert [r.status for r in sequence.rows] == ["built"] * 12
    arguments = ("sweep", files / "plan.toml", "-o", tmp_path / "cluster", "--on", "ray", "--jobs", 2)
    ray = {"RAY_TMPDIR": str(short)}  # paths of sockets have 107 characters at most

    def built() -> list[Row]:
        known = (tmp_path / "cluster" / table.FILE).exists()
        return [r for r in table.read(tmp_path / "cluster") if r.status == "built"] if known else []

    with small.process(arguments, tmp_path, ray) as driver:
        small.wait_for(lambda: workers(driver.pid) or driver.poll() is not None, 240)
        os.kill(workers(driver.pid)[0], signal.SIGKILL)
        small.wait_for(lambda: len(built()) >= 3, 240)
        command = next(c for c in children(driver.pid) if c != driver.pid)
        before = built()
        os.kill(command, signal.SIGKILL)
        driver.communicate()
    with small.process(arguments, tmp_path, ray) as again:
        again.communicate()
    found = opened(tmp_path / "cluster").rows
    assert [r.sha256 for r in found] == [r.sha256 for r in sequence.rows]
    assert set(before) <= set(found)  # time of their end included: they were not built again
