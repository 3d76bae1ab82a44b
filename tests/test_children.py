"""Other processes: what they print and how they end comes back, and they end with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeqwt.children import Watched
from tests.small import ROOT, alive, wait_for

PYTHON = sys.executable


def test_output_status_and_folder(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['A'], sys.stdin.read()); print('b', file=sys.stderr); exit(3)"
    command = [PYTHON, "-c", code]
    status, out, err = Watched(command, errors=subprocess.PIPE, folder=tmp_path, variables={"A": "a"}).wait()
    assert (status, out, err) == (3, f"{tmp_path} a \n".encode(), b"b\n")
    with (tmp_path / "log").open("wb") as log:
        assert Watched(["sh", "-c", "echo one; echo two >&2"], log).wait()[0] == 0
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_is_reported_as_one(number: signal.Signals) -> None:
    assert Watched(["sh", "-c", f"kill -{number} $$"]).wait()[0] == -number


def test_there_is_no_such_program() -> None:
    with pytest.raises(FileNotFoundError):
        Watched(["no-such-program"])


def test_it_may_take_only_so_long(tmp_path: Path) -> None:
    watched = Watched(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    with pytest.raises(subprocess.TimeoutExpired):
        watched.wait(0.1)
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())), 5)


WATCHED = """
import sys
from edgeqwt.children import Watched
Watched(["sh", "-c", "sleep 60 & echo $! $$ > pids; wait"]).wait()
"""
RUNNER = """
from tests.chain import Chain
from edgeqwt.runtime.subprocess_runners import Host
chain = Chain()
x = chain.input((1, 8))
runner = Host("a host").runner("reference", chain.graph(chain.op("RELU", x)))
open("pids", "w").write(f"{runner.loaded.process.pid}\\n")
import signal; signal.pause()
"""
ONE_CALL = """
import os, threading, time
from edgeqwt.runtime.child import in_child
from tests.test_children import sleep
in_child(sleep, os.getcwd())
"""


def sleep(folder: str) -> None:
    """What a process of its own does for ONE_CALL."""
    import time

    Path(folder, "pids").write_text(f"{os.getpid()}\n")
    time.sleep(60)


@pytest.mark.parametrize("code", [WATCHED, RUNNER, ONE_CALL], ids=["program and its child", "runner", "one call"])
def test_they_end_with_a_process_that_is_killed(tmp_path: Path, code: str) -> None:
    pids = tmp_path / "pids"
    with subprocess.Popen([PYTHON, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        wait_for(lambda: process.poll() is not None or (pids.exists() and pids.read_text().endswith("\n")))
        children = [int(pid) for pid in pids.read_text().split()]
        assert all(map(alive, children))
        process.kill()
    wait_for(lambda: not any(map(alive, children)), 5)
