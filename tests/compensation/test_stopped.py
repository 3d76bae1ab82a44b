"""Whatever stops a compensation, it leaves no file behind, and no wrong result."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgeqwt.compensation.cwac import compensate
from edgeqwt.compensation.solve import Options
from edgeqwt.errors import InputError
from edgeqwt.scales.ranges import Mse
from tests.compensation.nets import made, plain_net


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_files_vanish_when_it_is_stopped(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    case = made(plain_net(), count=40)
    case.compensated()  # what the first run leaves open for good
    before = len(os.listdir("/proc/self/fd"))

    def stop(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        compensate(case.integer, case.floating, case.samples, case.statistics, Mse(), Options(), stop)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.iterdir())


def test_full_disk_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may not grow beyond 128 KiB; the first layer's outputs of 200 samples take 400."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    case = made(plain_net(), count=40)
    many = [*case.samples] * 5
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, old[1]))
    try:
        with pytest.raises(InputError, match="activations cannot be kept in"):
            replace(case, samples=many).compensated()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


CTRL_C = """
import itertools, sys
sys.path.insert(0, {root!r})
from edgeqwt.compensation.cwac import compensate
from edgeqwt.compensation.solve import Options
from edgeqwt.scales.ranges import Mse
from tests.compensation.nets import made, plain_net

case = made(plain_net(), count=2)
many = itertools.islice(itertools.cycle(case.samples), 20000)
print("ready", flush=True)
compensate(case.integer, case.floating, many, case.statistics, Mse(), Options(), lambda *_: print("layer", flush=True))
print("done", flush=True)
"""


def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C.format(root=root)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.stdout.readline() == "layer\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "done" not in out
    assert "KeyboardInterrupt" in err
    assert process.returncode != 0
    assert not list(tmp_path.iterdir())
