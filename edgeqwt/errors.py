"""The error tree, split by who must act.

    EdgeqwtError                 exit code 1
    ├── InputError          2    the user's file, data or option is wrong
    │   └── ParityError     6    the conversion changed the model
    ├── ConversionError     6    no converter's result computes what the source does
    ├── RecipeError         3    the recipe asks for something that does not exist
    ├── UnsupportedError    4    an op, or a use of it, has no integer form here
    ├── ToolError           5    a program that we call failed
    ├── TargetError         7    the target does not take the model
    ├── QualityError        8    the integer model is far from the float one
    └── InvariantError     70    our bug

Every error has a one-line message (what was wrong, and where) and a hint
(what to do next). Only the command line catches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LONGEST = 40  # characters of a tensor's name in a message


class EdgeqwtError(Exception):
    """Root of all errors that edgeqwt raises on purpose.

    Args:
        message: one line: what was wrong and where (op, tensor, file, line).
        hint: one or two lines: what the reader can do next.

    Attributes:
        op: the op of the model that it is about, with its output tensor, where it is about one.
        location: where in the source model that op is, where that is known.
    """

    exit_code = 1
    op = ""
    location = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """So that another process hands it on as it is, whatever its constructor takes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[EdgeqwtError], arguments: tuple[Any, ...], state: dict[str, Any]) -> EdgeqwtError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(state)
    return error


class InputError(EdgeqwtError):
    """A file, sample or option of the user's cannot be used."""

    exit_code = 2


class ParityError(InputError):
    """The converted float model does not compute what the source model computes.

    Args:
        message: see EdgeqwtError.
        hint: likewise.
        op: the first op whose output diverges.
        location: where in the source model it is.
    """

    exit_code = 6

    def __init__(self, message: str, hint: str = "", op: str = "", location: str = "") -> None:
        super().__init__(message, hint)
        self.op, self.location = op, location


class ConversionError(EdgeqwtError):
    """No converter carries the source model over; its exit code is that of the first one's error.

    Args:
        what: the source model.
        failures: a sentence for each converter that was tried.
        hint: what else to do.
    """

    exit_code = 6

    def __init__(self, what: str, failures: Sequence[str], hint: str = "") -> None:
        super().__init__(f"no converter carries {what} over; {len(failures)} were tried", hint)
        self.failures = tuple(failures)

    def __str__(self) -> str:
        return "\n".join((self.message, *self.failures))


class RecipeError(EdgeqwtError):
    """A recipe has an unknown key or a value out of range."""

    exit_code = 3


class UnsupportedError(EdgeqwtError):
    """An op, or the way it is used, cannot become integer for the target.

    Args:
        op: the op, with its index and output tensor, and its location in the source model.
        target: the target's name.
        rule: the rule that it breaks, as a sentence.
        hint: what to do next.
    """

    exit_code = 4

    def __init__(self, op: str, target: str, rule: str, hint: str = "") -> None:
        super().__init__(f"{op} cannot be integer on target {target}: {rule}", hint)
        self.op, self.target, self.rule = op, target, rule


class TargetError(EdgeqwtError):
    """The target does not take the model, or it costs more there than it may."""

    exit_code = 7


class QualityError(EdgeqwtError):
    """The integer model comes out too far from the float one, or differences cannot be trusted.

    Attributes:
        refused: of a build that stopped, what a page of it shows (`judgement.Refused`); None elsewhere, and in other
            processes.
    """

    exit_code = 8
    refused: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, {k: v for k, v in self.__dict__.items() if k != "refused"})


class ToolError(EdgeqwtError):
    """A program that edgeqwt calls failed.

    Args:
        command: what was run.
        exit_status: its exit status, or None when it could not be started.
        log_tail: the last lines it printed.
        hint: what to do next.
    """

    exit_code = 5

    def __init__(self, command: str, exit_status: int | None, log_tail: str, hint: str = "") -> None:
        status = "could not be started" if exit_status is None else f"failed with exit status {exit_status}"
        super().__init__(f"{command} {status}", hint)
        self.command, self.exit_status, self.log_tail = command, exit_status, log_tail


class InvariantError(EdgeqwtError):
    """Something that must always hold does not: a bug of edgeqwt's."""

    exit_code = 70

    def __init__(self, message: str) -> None:
        super().__init__(message, "This is a bug in edgeqwt: please report it with the model, or a part of it.")


def listed(items: Sequence[str], most: int) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"


def short(name: str) -> str:
    """A tensor's name for messages: converters make names of hundreds of characters, whose end tells them apart."""
    return name if len(name) <= LONGEST else f"…{name[-LONGEST:]}"


def printable(text: str, lines: bool = False) -> str:
    """Text with nothing in it that a terminal would obey: controls become U+FFFD, line ends with `lines` do not."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else "\ufffd" for c in text)
