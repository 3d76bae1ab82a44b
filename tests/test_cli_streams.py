"""The command line in pipes, on terminals, and without any of them."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.small import Small, process

NOISE = re.compile(r"INFO|WARNING|ERROR|W0000|XNNPACK delegate|Traceback|\.py:\d+")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("arguments", [["targets"], ["inspect", "MODEL", "--json"], ["inspect", "MODEL"]])
def test_a_reader_that_goes_away(tmp_path: Path, files: Small, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = process([str(files.model) if a == "MODEL" else a for a in arguments], tmp_path, stdout=writing)
    os.close(writing)
    assert command.communicate()[1] == ""
    assert command.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = process(["targets"], tmp_path, stdout=full)
    assert "No space left on device" in command.communicate()[1]
    assert command.returncode == 2


def test_without_standard_streams(tmp_path: Path, files: Small) -> None:
    def close() -> None:
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    arguments = ["build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast"]
    command = process(arguments, tmp_path, stdout=None, stderr=None, preexec_fn=close)
    assert command.wait() == 0
    assert {"model.tflite", "report.json", "package"} <= {*os.listdir(tmp_path / "out")}


def test_a_build_in_a_pipe_is_quiet(tmp_path: Path, files: Small) -> None:
    command = process(["build", files.model, "-c", files.samples, "-o", "out"], tmp_path)
    out, err = command.communicate()
    assert (command.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert not NOISE.search(out.replace("XNNPACK  ", "")), out


def test_a_build_on_a_terminal_shows_its_stages_and_nothing_of_the_libraries(tmp_path: Path, files: Small) -> None:
    import pty

    terminal, end = pty.openpty()
    options: dict[str, Any] = {"stdin": end, "stdout": end, "stderr": end}
    command = process(["build", files.model, "-c", files.samples, "-o", "out"], tmp_path, **options)
    os.close(end)
    shown = b""
    while command.poll() is None or select.select([terminal], [], [], 0)[0]:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                shown += os.read(terminal, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(terminal)
    assert command.wait() == 0
    text = shown.decode()
    for stage in ("convert", "calibrate", "compensate", "judge", "prove"):
        assert stage in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor stays hidden"
    assert not NOISE.search(text), NOISE.findall(text)
