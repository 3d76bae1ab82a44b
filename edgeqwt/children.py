"""Other processes end with this one, whatever ends it: not even SIGKILL leaves them running.

A program of somebody else's runs below a watcher, a Python process with nothing but the standard library, in a group
of its own. The watcher's standard input is a pipe that only this process holds open: when it closes, the watcher ends
the group, children of the program included. Python processes of our own (`end_with_parent`) ask the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from edgeqwt.signals import held

_WATCH = """
import os, signal, sys, threading
def watch():
    while os.read(0, 1): pass
    os.killpg(0, signal.SIGKILL)
null = os.open(os.devnull, os.O_RDONLY)
quiet = [signal.SIGPIPE, signal.SIGXFSZ]
program = os.posix_spawnp(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0)], setsigdef=quiet
)
threading.Thread(target=watch, daemon=True).start()
status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
if status < 0:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""
PR_SET_PDEATHSIG = 1
PATIENCE = 2.0  # seconds


class Watched:
    """A program that runs with an empty standard input, and ends with this process.

    Args:
        command: program and arguments.
        output: a file for what it prints, standard error included; None: a pipe.
        errors: where its standard error goes apart from the rest: subprocess.PIPE or subprocess.DEVNULL.
        folder: to run it in.
        variables: its environment; None: this process's.

    Raises:
        OSError: there is no such program.
    """

    def __init__(
        self,
        command: Sequence[str],
        output: IO[bytes] | None = None,
        errors: int = subprocess.STDOUT,
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        path = (os.environ if variables is None else variables).get("PATH", os.defpath)
        program = shutil.which(command[0], path=path)
        if program is None:
            raise FileNotFoundError(2, os.strerror(2), command[0])
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCH, program, *command[1:]],
            cwd=folder,
            env=None if variables is None else dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if output is None else output,
            stderr=errors,
            start_new_session=True,
        )

    def wait(self, timeout: float | None = None) -> tuple[int, bytes, bytes]:
        """Exit status (negative: of a signal), and what was printed into pipes.

        Args:
            timeout: seconds.

        Raises:
            subprocess.TimeoutExpired: it takes longer; it is ended then, as by any other exception.
        """
        printed = (self.process.stdout, self.process.stderr)
        lifeline = self.process.stdin
        assert lifeline is not None
        try:
            self.process.stdin = None  # communicate() would close it, which ends the program
            out, errors = self.process.communicate(timeout=timeout)
        except BaseException:
            self._end()
            for pipe in printed:
                if pipe is not None:
                    pipe.close()
            raise
        finally:
            lifeline.close()
        return self.process.returncode, out or b"", errors or b""

    def _end(self) -> None:
        """Ends the group, and waits for it: not only for the watcher, which is the one that can be waited for."""
        with held(), contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:  # in vain where nobody takes notice of dead orphans
                os.killpg(self.process.pid, 0)
                time.sleep(0.005)


def end_with_parent(parent: int) -> None:
    """Ends this process when the one that started it ends; elsewhere than on Linux it ends with its standard input.

    Args:
        parent: process that started this one; it may be gone by now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def limit_memory(process: int, memory: int | None) -> None:
    """Limits the address space of a process to what it has and so much more, on Linux.

    Args:
        process: its id; 0: this one.
        memory: bytes; None lifts the limit.
    """
    if sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):  # it has ended already
        pages = int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[0])
        hard = resource.prlimit(process, resource.RLIMIT_AS)[1]
        soft = hard if memory is None else pages * resource.getpagesize() + memory
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.prlimit(process, resource.RLIMIT_AS, (soft, hard))
