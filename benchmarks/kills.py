"""kills builds at random moments: outputs lost, leftovers after the next build, processes that go on, messages."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from edgeqwt import cli, disk
from edgeqwt.report import folder as folders
from edgeqwt.report.manifest import MANIFEST, files, strange

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "EDGEQWT_KILLED_BUILD"
"""In the environment of everything that a build starts: by this its processes are found."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE = 120.0  # seconds after which a build that was asked to end counts as one that did not
STARTED = 0.2  # seconds after which a build, a copy of this process, handles signals
TRACED = {folders.__file__, disk.__file__}
OUT, TEMPORARY = "out", "tmp"


def build_folder(place: Path, exchange: bool = True) -> None:
    """What a build does with its output, without what it does before."""
    if not exchange:
        folders._exchanged = lambda a, b: False
    with disk.TemporaryFolder() as temporary, folders.whole_folder(place / OUT) as work:
        (temporary / "converted").write_bytes(os.urandom(100))
        for name in ("model.tflite", "report.json", "package"):
            (work / name).write_bytes(os.urandom(5000))


def build(place: Path) -> None:
    """A whole build, as the command line runs it."""
    command = ["edgeqwt", "build", "float.tflite", "-c", "samples.npz", "-o", OUT, "--recipe", "fast"]
    os.chdir(place)
    sys.argv[:] = command
    cli.main()


def forked(work: Callable[[], None], place: Path) -> int:
    """Runs something in a copy of this process, whose temporary files and standard error lie in a folder."""
    (place / "stderr").write_bytes(b"")
    process = os.fork()
    if process:
        return process
    os.setsid()
    for number in {*SIGNALS} - {signal.SIGKILL}:  # a shell's background processes ignore some, and a build then does
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ[VARIABLE] = str(place)
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / TEMPORARY)
    for descriptor, name in ((1, os.devnull), (2, str(place / "stderr"))):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    code = 0
    try:
        work()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def at_line(number: int, work: Callable[[], None]) -> Callable[[], None]:
    """The same, killed before it runs the line of this number, of those that handle folders and temporary files."""

    def run() -> None:
        left = number

        def line(frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return line

        sys.settrace(line)
        work()

    return run


def ended(process: int) -> int | None:
    """A process's end, waited for with patience: its exit code or the negative signal; None where it goes on."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


SETTLED = 0.3  # seconds: a process that ends has no environment any more, and its locks for some time yet


def going_on(place: Path, seconds: float = 5.0) -> list[str]:
    """Processes of a build that is dead, after some time to end."""
    end = time.monotonic() + seconds
    while found := list(_processes(place)):
        if time.monotonic() > end:
            return found
        time.sleep(0.02)
    time.sleep(SETTLED)
    return []


def _processes(place: Path) -> Iterator[str]:
    mark = f"{VARIABLE}={place}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and mark in (process / "environ").read_bytes().split(b"\0"):
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]


def faults(place: Path, before: int, code: int | None, number: int, speaks: bool) -> Iterator[str]:
    """What is wrong after a kill.

    Args:
        place: of the build.
        before: inode of the output before it began.
        code: see `ended`.
        number: of the signal.
        speaks: whether it is the command line, which says how it ended.
    """
    if code is None:
        yield "signal was lost"
    said = (place / "stderr").read_text(errors="replace")
    exists = (place / OUT).exists()
    changed = exists and (place / OUT).stat().st_ino != before
    if speaks and code != -signal.SIGKILL:
        words = f"{OUT} had been written" if changed else "nothing was written"
        stopped = (128 + number, f"edgeqwt: interrupted; {words}\n")
        if (code, said) not in (stopped, (0, "") if changed else stopped):
            yield f"exit code {code}, changed {changed}, said {said!r}"
    if going_on(place):
        yield "processes go on"
    _as_the_next_build_begins(place)
    left = sorted({path.name for path in place.iterdir()} - {OUT, TEMPORARY, "stderr", "float.tflite", "samples.npz"})
    left += [path.name for path in (place / TEMPORARY).iterdir() if not path.name.startswith("torchinductor")]
    if left:
        yield f"left: {', '.join(left)}"
    if not _whole(place / OUT):
        yield "output lost"


def _as_the_next_build_begins(place: Path) -> None:
    disk.sweep(place / TEMPORARY)
    with contextlib.suppress(InterruptedError), folders.whole_folder(place / OUT):
        raise InterruptedError


def _whole(out: Path) -> bool:
    """Whether everything is there that the manifest lists, as it was written, and nothing else."""
    if not (out / MANIFEST).is_file() or strange(out):
        return False
    listed = [line[66:] for line in (out / MANIFEST).read_text().splitlines()]
    return bool(listed) and sorted([*listed, MANIFEST]) == files(out)


def prepared(place: Path, whole: bool) -> float:
    """A folder with a first output; returns the seconds that it took."""
    (place / TEMPORARY).mkdir(parents=True)
    if whole:
        sys.path.insert(0, str(ROOT))
        from tests import small

        small.write(place)
        (place / "labelled.npz").unlink()
    start = time.monotonic()
    process = forked((lambda: build(place)) if whole else (lambda: build_folder(place)), place)
    code = ended(process)
    if code != 0:
        sys.exit(f"the first build ended with {code}: {(place / 'stderr').read_text()}")
    return time.monotonic() - start


def kill_builds(place: Path, count: int, seed: int = 0, whole: bool = True) -> Counter[str]:
    """Kills builds at random moments of their time, and some after it.

    Args:
        place: to work in.
        count: how many.
        seed: of the moments and signals.
        whole: builds on the command line, killed by all signals that end one; otherwise only what they do with their
            folders, by SIGKILL, every other one as where folders cannot be exchanged in one step.
    """
    chance = random.Random(seed)
    seconds = prepared(place, whole)
    found: Counter[str] = Counter()
    for k in range(count):
        before = (place / OUT).stat().st_ino
        number = chance.choice(SIGNALS) if whole else signal.SIGKILL
        process = forked((lambda: build(place)) if whole else (lambda k=k: build_folder(place, bool(k % 2))), place)
        time.sleep(chance.uniform(STARTED if whole else 0, 1.1 * seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        code = ended(process)
        found[f"ended by {signal.Signals(number).name}" if code != 0 else "ended before"] += 1
        for fault in faults(place, before, code, number, speaks=whole):
            found[f"FAULT: {fault}"] += 1
    return found


def kill_at_lines(place: Path, step: int = 1) -> Counter[str]:
    """Kills at every line, or at every `step`-th, of what handles folders, with exchange and without."""
    prepared(place, whole=False)
    found: Counter[str] = Counter()
    for exchange in (True, False):
        number, code = 0, -int(signal.SIGKILL)
        while code != 0:
            before = (place / OUT).stat().st_ino
            work = at_line(number, lambda exchange=exchange: build_folder(place, exchange))
            code = ended(forked(work, place)) or 0
            found["killed at a line" if code else "not killed"] += 1
            for fault in faults(place, before, code, signal.SIGKILL, speaks=False):
                found[f"FAULT at line {number}: {fault}"] += 1
            number += step
    return found


def main() -> None:
    """Kills and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=200, help="whole builds to kill")
    parser.add_argument("--folders", type=int, default=1000, help="exchanges of folders to kill at random moments")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    place, wrong = Path(tempfile.mkdtemp(prefix="kills-")), list[str]()
    try:
        for what, found in (
            ("every line", kill_at_lines(place / "lines")),
            ("folders", kill_builds(place / "folders", arguments.folders, arguments.seed, whole=False)),
            ("builds", kill_builds(place / "builds", arguments.builds, arguments.seed)),
        ):
            print(what, *(f"  {n:5} {name}" for name, n in sorted(found.items())), sep="\n", flush=True)
            wrong += [name for name in found if name.startswith("FAULT")]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit("required: no fault" if wrong else 0)


if __name__ == "__main__":
    main()
