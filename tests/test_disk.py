"""Temporary files, whole files, and what is said when there is no room for them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from edgeqwt import disk
from edgeqwt.errors import InputError
from tests import small
from tests.small import ROOT


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


# -- temporary files -------------------------------------------------------------


def test_a_temporary_folder_goes_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with disk.TemporaryFolder() as folder:
        (folder / "file").write_text("")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


KILLED = "import os, signal; from edgeqwt.disk import TemporaryFolder; f = TemporaryFolder(); (f.path / 'a').touch(); "


def test_that_of_a_killed_process_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "edgeqwt-notes.lock").touch()
    (tmp_path / "edgeqwt-01234567").mkdir()  # no lock: of somebody else's, or of a program from before there were locks
    run(KILLED + "os.kill(os.getpid(), signal.SIGKILL)", tmp_path, TMPDIR=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
    with disk.TemporaryFolder() as mine:
        disk.sweep(tmp_path)  # which leaves those of the living
        assert mine.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["edgeqwt-01234567", "edgeqwt-notes.lock"]


def test_many_processes_at_a_time_sweep_nothing_of_each_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lost = []

    def work() -> None:
        for _ in range(50):
            with disk.TemporaryFolder() as folder:
                (folder / "a").touch()
                if not (folder / "a").exists():
                    lost.append(folder)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("directory", "said"), [("missing", "does not exist"), ("file", "is no folder"), ("/proc", "cannot be")]
)
def test_a_tmpdir_that_cannot_be_used_is_named(tmp_path: Path, directory: str, said: str) -> None:
    """Python would pass over it, and take another."""
    (tmp_path / "file").touch()
    code = (
        "from edgeqwt.disk import temporary_file\nfrom edgeqwt.errors import InputError\n"
        "try: temporary_file()\nexcept InputError as error: print(error, error.hint)"
    )
    printed = run(code, tmp_path, TMPDIR=str(tmp_path / directory)).stdout
    assert f"{tmp_path / directory}, which TMPDIR names for temporary files, {said}" in printed
    assert "environment variable TMPDIR" in printed


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command that runs another one where `tmp_path`/disk is a file system of 64 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(directory)]
    try:
        possible = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("file systems cannot be mounted here")
    return command


FILLING = """
import os
import numpy as np
def fill():
    with open(os.environ["TMPDIR"] + "/big", "wb", buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError: pass
def samples():
    fill()
    for i in range(8):
        yield {"image": np.full((1, 8, 8, 3), i, np.float32)}
"""


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_full_tmpdir_is_named(tmp_path: Path, small_disk: list[str], when: str) -> None:
    files, directory = small.write(tmp_path), tmp_path / "disk"
    (tmp_path / "data.py").write_text(FILLING)
    code = "import sys, data; from edgeqwt.cli import run; data.fill() if sys.argv.pop(1) == 'before' else None; "
    arguments = ["build", files.model, "-c", "data.py:samples", "-o", "out", "--recipe", "fast"]
    command = [*small_disk, sys.executable, "-c", f"{code}sys.exit(run(sys.argv[1:]))", when, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    message, hint = done.stderr.splitlines()
    said = {
        "before": f"{directory}, which TMPDIR names for temporary files, is full",
        "meanwhile": f"activations cannot be kept in {directory}: No space left on device",
    }
    assert message == f"edgeqwt: error: {said[when]}"
    assert "TMPDIR" in hint
    assert not (tmp_path / "out").exists()


@pytest.mark.requires("torch", "onnxruntime")
def test_a_disk_that_a_converter_fills_is_named(tmp_path: Path, small_disk: list[str]) -> None:
    (tmp_path / "net.py").write_text(
        "import numpy as np\nimport torch\n"
        "def create(): return torch.nn.Linear(300, 100)\n"
        "def samples(): return (np.ones((1, 300), np.float32) * k for k in range(8))\n"
    )
    code = "import sys; from edgeqwt.cli import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["build", "net.py:create", "-c", "net.py:samples", "-o", "out", "--recipe", "fast"]
    command = [*small_disk, sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "disk")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    *_, message, hint = done.stderr.splitlines()
    assert message.startswith(f"edgeqwt: error: the disk of {tmp_path / 'disk'}"), done.stderr
    assert "TMPDIR" in hint


def test_a_full_output_folder_is_named(tmp_path: Path, small_disk: list[str]) -> None:
    code = (
        "from pathlib import Path\nfrom edgeqwt.report.folder import whole_folder\n"
        "from edgeqwt.errors import InputError\n"
        "try:\n    with whole_folder(Path('disk/out')) as work: (work / 'a').write_bytes(bytes(1 << 20))\n"
        "except InputError as error: print(error)\nprint(*Path('disk').iterdir())"
    )
    command = [*small_disk, sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "disk/out cannot be written: No space left on device\n\n", done.stderr


def test_errors_of_the_disk_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    inside = disk.explained(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a" / "b")), "Then.")
    assert inside.message == f"{tmp_path}, the folder for temporary files, is full"
    assert inside.hint == f"{disk.OTHER_FOLDER} Then."
    outside = disk.explained(OSError(errno.ENOSPC, "No space left on device", "/elsewhere/b"))
    assert (outside.message, outside.hint) == ("No space left on device (/elsewhere/b)", disk.FREE_SPACE)
    denied = disk.explained(PermissionError(errno.EACCES, "Permission denied", "x"))
    assert denied.message == "Permission denied (x)"


# -- whole files -----------------------------------------------------------------


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.[x]"
    start = disk.noted()
    disk.write_whole(path, b"old")
    assert disk.written(start) == [path]

    def interrupted() -> None:
        with disk.whole_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.[x]"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    disk.write_whole(pipe, b"model")
    reader.join(10)
    assert found == [b"model"]
    assert pipe.is_fifo()
    assert [*tmp_path.iterdir()] == [pipe]
    if Path("/dev/full").is_char_device():
        link = tmp_path / "full"
        link.symlink_to("/dev/full")
        with pytest.raises(InputError, match="No space left on device"):
            disk.write_whole(link, b"model")
        assert Path("/dev/full").is_char_device()


def test_a_link_to_a_pipe_without_a_name(tmp_path: Path) -> None:
    """As /dev/stdout is one, before a pipe."""
    code = "from pathlib import Path; from edgeqwt.disk import write_whole; write_whole(Path('/dev/stdout'), b'all')"
    assert run(code, tmp_path).stdout == "all"


def test_what_a_killed_process_left_of_a_file_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, pathlib; from edgeqwt.disk import whole_file\n"
        "with whole_file(pathlib.Path('a')) as file: file.write(b'x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run(code, tmp_path)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".a.edgeqwt-")
    with disk.whole_file(tmp_path / "a") as file:
        disk.write_whole(tmp_path / "a", b"other")  # a second one leaves the first one's alone
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_permissions_and_links_are_as_for_any_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    (tmp_path / "link").symlink_to("a")
    disk.write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "link").is_symlink()


def test_what_was_written_is_what_lies_there(tmp_path: Path) -> None:
    start = disk.noted()
    (tmp_path / "work").mkdir()
    disk.expect(tmp_path / "out", tmp_path / "work")
    assert disk.written(start) == []
    (tmp_path / "work").rename(tmp_path / "out")
    assert disk.written(start) == [tmp_path / "out"]
    assert disk.written(disk.noted()) == []
