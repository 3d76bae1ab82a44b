from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeqwt.runtime.native_log import captured_stderr


def say(text: str) -> None:
    """Prints as a native library does."""
    os.write(2, text.encode())


def test_lines_are_caught_and_stderr_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    say("before\n")
    with captured_stderr() as lines:
        say("one\ntwo")
        assert lines == []
    say("after\n")
    assert lines == ["one", "two"]
    assert capfd.readouterr().err == "before\nafter\n"


def test_captures_nest(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as outer:
        say("a\n")
        with captured_stderr() as inner:
            say("b\n")
        say("c\n")
    assert (outer, inner) == (["a", "c"], ["b"])
    assert capfd.readouterr().err == ""


def test_stderr_is_given_back_when_something_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    caught: list[list[str]] = []

    def interrupted() -> None:
        with captured_stderr() as lines:
            caught.append(lines)
            say("caught\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    say("seen\n")
    assert caught == [["caught"]]
    assert capfd.readouterr().err == "seen\n"


def test_bytes_that_are_no_text() -> None:
    with captured_stderr() as lines:
        os.write(2, b"\xff\xfe broken\n")
    assert lines == ["\ufffd\ufffd broken"]


def test_no_descriptors_are_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with captured_stderr():
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    wrong = []

    def work(name: str) -> None:
        for _ in range(50):
            with captured_stderr() as lines:
                say(f"{name}\n")
                time.sleep(0)
                say(f"{name}\n")
            if lines != [name, name]:
                wrong.append(lines)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert capfd.readouterr().err == ""


def test_a_process_without_stderr() -> None:
    """As `edgeqwt build ... 2>&-` starts one."""
    program = """
import os
from edgeqwt.runtime.native_log import captured_stderr
for _ in range(3):
    with captured_stderr() as lines:
        os.write(2, b"said")
    assert lines == ["said"], lines
    try:
        os.fstat(2)
    except OSError:
        continue
    raise SystemExit("standard error is open now")
"""
    root = Path(__file__).parents[2]
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    done = subprocess.run(command, cwd=root, check=False, timeout=60, stdout=subprocess.PIPE)
    assert done.returncode == 0
