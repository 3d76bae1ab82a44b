"""The command line as a process: streams, signals, errors as one line, a hint and an exit code."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import typer

from edgeqwt.commands import app
from edgeqwt.disk import noted, written
from edgeqwt.errors import ConversionError, EdgeqwtError, InputError, ToolError, printable
from edgeqwt.guard import as_error, done, supervised
from edgeqwt.invocation import command_line
from edgeqwt.loading import shown
from edgeqwt.output import one_line, show_error
from edgeqwt.signals import ENDING

COMPLETE = "_EDGEQWT_COMPLETE"
UsageError = typer.BadParameter.__bases__[0]  # click's, wherever this version of typer keeps it


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; what cleans up after Ctrl-C runs for all of them.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stopper:
    """Signal handler that raises Stopped.

    A second signal within PATIENCE seconds is passed over: it would stop the cleaning up. A later one
    is not, because somebody's `except` may have swallowed the first.
    """

    PATIENCE = 3.0
    AGAIN = 0.01  # seconds after which one comes again that hit a callback

    def __init__(self) -> None:
        self.last = -math.inf
        self.stopped: Stopped | None = None  # the last one that was raised

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Takes a signal.

        Raises:
            Stopped: it is the first one within PATIENCE seconds.
        """
        now = time.monotonic()
        if now - self.last > self.PATIENCE:
            self.last = now
            self.stopped = Stopped(number)
            raise self.stopped

    def unraisable(self, found: Any) -> None:
        """Takes what Python ignores, such as what a finalizer raises: a stop that hit one comes again soon."""
        if not isinstance(found.exc_value, Stopped):
            sys.__unraisablehook__(found)
            return
        self.last = -math.inf
        again = threading.Timer(self.AGAIN, os.kill, (os.getpid(), found.exc_value.number))
        again.daemon = True
        again.start()


def main() -> None:
    """The console script."""
    _open_standard_streams()
    if not hasattr(os, "fork") or os.environ.get("EDGEQWT_DEBUG"):  # a debugger wants one process
        sys.exit(_work(lambda: None))
    code, error = supervised(_work, ENDING)
    sys.exit(code if error is None else _reported(error))


def _work(ready: Callable[[], None]) -> int:
    """Runs the command that the process was started for, which signals end in an orderly way.

    Args:
        ready: called when they do.
    """
    stopper, numbers, start = Stopper(), list[int](), noted()
    try:
        numbers += [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
        for number in numbers:
            signal.signal(number, stopper)
        sys.unraisablehook = stopper.unraisable
        ready()
        code = run(sys.argv[1:])
    except KeyboardInterrupt as stop:  # before run() could catch it, or after
        code = _stopped(stop, start)
    done()
    # From here on there is nothing to clean up that the next build would not: a signal ends the process at once, with
    # the code that it has earned, instead of raising in the middle of Python's own end.
    for number in numbers:
        signal.signal(number, lambda *_: os._exit(code))
    return code


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Nothing but this function catches errors.

    Args:
        arguments: without the program's name.
    """
    start = noted()
    try:
        if os.environ.get(COMPLETE):  # the shell asks for completions of a command line that it has in the environment
            typer.main.get_command(app).main([], prog_name="edgeqwt", complete_var=COMPLETE)
        with (
            command_line(arguments),
            typer.main.get_command(app).make_context("edgeqwt", list(arguments) or ["--help"]) as context,
        ):
            context.command.invoke(context)
        sys.stdout.flush()  # while a closed pipe can still be distinguished from success
        return 0
    except typer.Exit as end:
        return end.exit_code
    except KeyboardInterrupt as stop:
        return _stopped(stop, start)
    except (BrokenPipeError, SystemExit) as end:
        if isinstance(end, SystemExit) and not end.code:  # typer, when a shell's completion has been served
            return 0
        # rich makes a SystemExit of the first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return EdgeqwtError.exit_code
    except Exception as error:
        # Raised in the middle of a library's code, a stop may come out of it as another exception.
        if (hidden := _raised_stop()) is not None and not isinstance(error, EdgeqwtError | UsageError):
            return _stopped(hidden, start)
        if os.environ.get("EDGEQWT_DEBUG") and not isinstance(error, EdgeqwtError):
            raise
        return _reported(_as_edgeqwt(error, start))


def _raised_stop() -> Stopped | None:
    """The last one that a signal raised in this process."""
    handlers = [handler for number in ENDING if isinstance(handler := signal.getsignal(number), Stopper)]
    return handlers[0].stopped if handlers else None


def _stopped(stop: KeyboardInterrupt, start: int) -> int:
    """Says that a signal ended a command, and what it had written by then."""
    print(f"edgeqwt: interrupted; {_written(start)}", file=sys.stderr)
    _show_notes(stop)
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _written(start: int) -> str:
    names = [shown(path) for path in written(start)]
    return f"{', '.join(names)} had been written" if names else "nothing was written"


def _open_standard_streams() -> None:
    """Gives a process that was started without them (`>&-`) the null device.

    Otherwise the first files that are opened take their descriptors, and what libraries print lands in them.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))


def _as_edgeqwt(error: BaseException, start: int) -> EdgeqwtError:
    """Any error as one with a message, a hint and an exit code."""
    if isinstance(error, EdgeqwtError):
        return error
    if isinstance(error, UsageError):
        usage: Any = error
        command = usage.ctx.command_path if usage.ctx is not None else "edgeqwt"
        return InputError(usage.format_message().rstrip("."), f"See `{command} --help`.")
    return as_error(error, _written(start))


def _reported(error: EdgeqwtError) -> int:
    if isinstance(error, ToolError) and error.log_tail:
        print(printable(error.log_tail, lines=True), file=sys.stderr)
    if isinstance(error, ConversionError):
        for sentence in error.failures:
            print(f"  {one_line(sentence)}", file=sys.stderr)
    show_error(error)
    _show_notes(error)
    return error.exit_code


def _show_notes(error: BaseException) -> None:
    """What those said who let an error pass."""
    for note in getattr(error, "__notes__", ()):
        print(f"  {one_line(note)}", file=sys.stderr)


if __name__ == "__main__":
    main()
