"""Ctrl-C and other signals: the command ends soon, says so in one line, and leaves everything as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeqwt import cli
from tests import small
from tests.small import Small, alive, leftovers, process, tree


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


# Samples that say which part of the build asked for them, and let it wait there for the signal.
WAITING = """
import pathlib, sys, time
import numpy as np

def samples():
    yield {"image": np.ones((1, 8, 8, 3), np.float32)}
    frame, names = sys._getframe(), set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    if pathlib.Path("stage").read_text() in names:
        pathlib.Path("reached").touch()
        time.sleep(60)
    for i in range(7):
        yield {"image": np.full((1, 8, 8, 3), i, np.float32)}
"""


def wait_for(path: Path, command: subprocess.Popen[str]) -> None:
    """Until the command has made the file."""
    end = time.monotonic() + 180
    while not path.exists():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("check_parity", signal.SIGINT),
        ("observe", signal.SIGTERM),
        ("compensate", signal.SIGINT),
        ("layer_quality", signal.SIGHUP),
    ],
)
def test_stopped_in_the_middle(tmp_path: Path, files: Small, stage: str, number: signal.Signals) -> None:
    (tmp_path / "data.py").write_text(WAITING)
    (tmp_path / "stage").write_text(stage)
    arguments = ["build", files.model, "-o", "out", "-c"]
    earlier = process([*arguments, files.samples, "--recipe", "fast"], tmp_path)
    assert earlier.communicate()[1] == ""
    before = tree(tmp_path)
    command = process([*arguments, "data.py:samples"], tmp_path)
    wait_for(tmp_path / "reached", command)
    command.send_signal(number)
    out, err = command.communicate(timeout=120)
    assert (command.returncode, out, err) == (128 + number, "", "edgeqwt: interrupted; nothing was written\n")
    (tmp_path / "reached").unlink()
    # torch makes a folder of its own when it is imported, as tests.small knows; it holds nothing of the build's.
    assert {name: data for name, data in tree(tmp_path).items() if "torchinductor" not in name} == before


@pytest.mark.requires("onnx", "onnx2tf")
def test_stopped_while_onnx2tf_runs(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, 1, (1, 8)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "relu.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 8), np.float32))
    # Beside the real interpreter, because onnx2tf's helper programs are looked for there.
    wrapper = tmp_path / "python"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = -P ] && [ "$2" != -c ] && echo $$ > {tmp_path}/pid && exec sleep 60\n'
        f'exec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    (tmp_path / "onnxsim").symlink_to(wrapper)
    (tmp_path / "tmp").mkdir()
    before = tree(tmp_path)
    command = process(
        ["build", "relu.onnx", "-c", "x.npz", "-o", "out", "--onnx2tf-python", wrapper],
        tmp_path,
        start_new_session=True,
    )
    wait_for(tmp_path / "pid", command)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=120)
    assert (command.returncode, err) == (130, "edgeqwt: interrupted; nothing was written\n")
    assert not alive(int((tmp_path / "pid").read_text()))
    (tmp_path / "pid").unlink()
    assert tree(tmp_path) == before
    assert leftovers(tmp_path / "tmp") == []


def test_an_impatient_second_signal_is_passed_over_and_a_later_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(cli.time, "monotonic", lambda: now)
    stopper = cli.Stopper()
    with pytest.raises(cli.Stopped):
        stopper(signal.SIGINT, None)
    now += 1
    stopper(signal.SIGINT, None)
    now += cli.Stopper.PATIENCE
    with pytest.raises(cli.Stopped):
        stopper(signal.SIGTERM, None)


def test_a_stop_that_comes_out_of_a_library_as_another_exception(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def library(*arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise TypeError("'NoneType' object is not iterable") from None

    stopper, before = cli.Stopper(), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("edgeqwt.api_targets.targets", library)
    try:
        for number in before:
            signal.signal(number, stopper)
        assert cli.run(["targets"]) == 143
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == "edgeqwt: interrupted; nothing was written\n"


def test_a_stop_that_hits_a_finalizer_comes_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work(*arguments: object) -> None:
        Finalized()
        time.sleep(30)
        pytest.fail("the signal was lost")

    stopper, before = cli.Stopper(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("edgeqwt.api_targets.targets", work)
    monkeypatch.setattr(sys, "unraisablehook", stopper.unraisable)
    try:
        signal.signal(signal.SIGTERM, stopper)
        assert cli.run(["targets"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert said.endswith("edgeqwt: interrupted; nothing was written\n")
    assert "Stopped" not in said


def test_an_ignored_signal_stays_ignored(tmp_path: Path, files: Small) -> None:
    (tmp_path / "data.py").write_text(WAITING.replace("time.sleep(60)", "time.sleep(1)"))
    (tmp_path / "stage").write_text("observe")
    command = process(
        ["build", files.model, "-o", "out", "-c", "data.py:samples", "--recipe", "fast"],
        tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    )
    wait_for(tmp_path / "reached", command)
    command.send_signal(signal.SIGHUP)
    assert command.communicate(timeout=120)[1] == ""
    assert command.returncode == 0


AT_EXIT = """
import atexit, os, signal, sys, time
from edgeqwt.__main__ import main

def stop():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)

atexit.register(stop)
sys.argv = ["edgeqwt", "targets"]
main()
"""
WHILE_IMPORTING = """
import sys
from edgeqwt.__main__ import main

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "edgeqwt.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
main()
"""


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [(AT_EXIT, 0, ""), (WHILE_IMPORTING, 130, "edgeqwt: interrupted; nothing was written\n")],
    ids=["at exit", "while importing"],
)
def test_stopped_at_the_ends(tmp_path: Path, code: str, status: int, said: str) -> None:
    """After its end a command has the exit code that it earned, and no traceback; before its beginning it says so."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(small.ROOT)},
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_what_had_been_written_before_a_signal_is_said(
    tmp_path: Path, files: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise cli.Stopped(signal.SIGTERM)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgeqwt.report.terminal.show_build", interrupted)
    assert cli.run(["build", str(files.model), "-c", str(files.samples), "-o", "out", "--recipe", "fast"]) == 143
    assert capsys.readouterr().err == "edgeqwt: interrupted; out had been written\n"
    assert cli.run(["build", str(files.model), "-c", "missing.npz", "-o", "out"]) == 2
    assert "had been written" not in capsys.readouterr().err
