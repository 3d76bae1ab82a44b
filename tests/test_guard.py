"""The command line as two processes: what becomes of the one that works is reported by the one that waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small import ROOT, alive

PROGRAM = """
import os, signal, sys, time
from edgeqwt import cli, guard
from edgeqwt.guard import running
guard.PATIENCE = 0.2

def work(arguments):
    {work}

cli.run = work
cli.main()
"""


def program(work: str, **options: object) -> subprocess.Popen[str]:
    """The console script with a command that does `work`."""
    code = PROGRAM.format(work=work)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload, no-any-return]


def ends(work: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with program(work) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 7, 70])
def test_exit_codes_pass_through(code: int) -> None:
    assert ends(f"print('done'); return {code}") == (code, "done\n", "")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_is_an_error_with_what_ran(number: signal.Signals) -> None:
    code, out, err = ends(f"\n    with running('LiteRT on CONV_2D #0'): os.kill(os.getpid(), {int(number)})")
    assert (code, out) == (5, "")
    assert err.startswith(f"edgeqwt: error: {number.name} ended the command while it ran LiteRT on CONV_2D #0; ")
    assert "hint: " in err


def test_what_no_longer_runs_is_not_named() -> None:
    code, _, err = ends("\n    with running('a'): pass\n    os.abort()")
    assert code == 5
    assert err.startswith("edgeqwt: error: SIGABRT ended the command; nothing was written")


def test_memory_that_the_system_takes_back() -> None:
    code, _, err = ends(f"os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert code == 1
    assert "the system ended the command (SIGKILL), as it does where memory runs out" in err


def test_a_command_that_does_not_react_to_signals_ends_at_the_second() -> None:
    work = "\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); print('ready', flush=True); time.sleep(60)"
    with program(work) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_both_processes_end_together(tmp_path: Path) -> None:
    with program("\n    print(os.getpid(), flush=True); time.sleep(60)") as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert worker != process.pid
        process.kill()
    end = time.monotonic() + 10
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(worker)
