"""What goes to the terminal, and how JSON is written: the parts that reports and benchmarks share."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from edgeqwt.errors import EdgeqwtError, printable
from edgeqwt.progress import Display, Shown, silent

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # of tables where standard output is no terminal
GAP = 2  # spaces between columns
WORDS = 20  # characters that a column of words keeps where there is little room
LABEL = len("TFLite Micro") + GAP

LABELS = {
    "next": "bold green",
    "warning": "bold yellow",
    "BELOW": "bold red",
    "error": "bold red",
    "FAILED": "bold red",
}
PATIENCE, OFTEN = 15.0, 60.0  # seconds before the first line on a stage, and between lines at most

Row = Sequence[str]
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_verbose: ContextVar[bool] = ContextVar("verbose", default=False)


@contextmanager
def loudness(quiet: bool, verbose: bool) -> Iterator[None]:
    """While the block runs, commands print nothing (`quiet`), or everything (`verbose`), not the worst alone."""
    tokens = (_quiet, _quiet.set(quiet)), (_verbose, _verbose.set(verbose))
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def most(usual: int) -> int | None:
    """How many of a long list are shown, as the end of a slice: `usual`, or all with --verbose."""
    return None if _verbose.get() else usual


def console() -> Console:
    """Standard output; names of tensors are printed as they are, not as markup."""
    from rich.console import Console
    from rich.text import Text

    class Printable(Console):
        """Texts come from files, too: none may move the cursor, colour the terminal or write to the left."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text, lines=True), **options)

    width = None if sys.stdout.isatty() else WIDTH
    return Printable(highlight=False, markup=False, emoji=False, width=width, quiet=_quiet.get())


def show_error(error: EdgeqwtError) -> None:
    """What was wrong and what to do, on standard error.

    "error" is red on a terminal, as tables are: unless NO_COLOR is set, and elsewhere where FORCE_COLOR is.
    """
    wanted = bool(os.environ.get("FORCE_COLOR")) or (sys.stderr.isatty() and os.environ.get("TERM") != "dumb")
    colours = wanted and not os.environ.get("NO_COLOR")
    label = "\x1b[1;31medgeqwt: error:\x1b[0m" if colours else "edgeqwt: error:"
    print(f"{label} {one_line(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {one_line(error.hint)}", file=sys.stderr)


def one_line(text: str) -> str:
    """One line, whatever a library or a file put into the text."""
    return printable(" ".join(text.split()))


def markdown(text: str) -> str:
    """A name or sentence of somebody else's as plain text of one line in Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """A name of somebody else's as the inside of a Markdown code span, in tables as well."""
    return printable(" ".join(text.split())).replace("`", "'").replace("|", "\\|")


def progress_display() -> Display:
    """Progress bars on a terminal; elsewhere, as in logs of CI, a line on stages that take long."""
    if _quiet.get():
        return silent
    try:
        # Its own descriptor: while native libraries run, descriptor 2 leads to a log.
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # somebody's object in its place, without a file
        return silent
    return _bars(descriptor) if sys.stderr.isatty() else _lines(descriptor)


def _bars(descriptor: int) -> Display:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Count(ProgressColumn):
        """How many of how many; nothing where nobody knows."""

        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")

    class Left(ProgressColumn):
        """How long it will take yet; nothing where nobody knows."""

        def render(self, task: Task) -> Text:
            left = task.time_remaining
            return Text("" if left is None or task.total is None or task.finished else f"{_span(left)} left")

    @contextmanager
    def display(name: str) -> Iterator[Shown]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:24}"),
            BarColumn(),
            TimeElapsedColumn(),
            Count(),
            Left(),
        )
        with (
            open(os.dup(descriptor), "w", encoding=sys.stderr.encoding) as terminal,
            Progress(*columns, console=Console(file=terminal), transient=True) as progress,
        ):
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return display


def _lines(descriptor: int, patience: float = PATIENCE) -> Display:
    """A line on a stage that takes longer than `patience` seconds, others ever more rarely, and one when it ends."""

    @contextmanager
    def display(name: str) -> Iterator[Shown]:
        start, ended = time.monotonic(), threading.Event()
        reached: list[tuple[int, int | None]] = [(0, None)]

        def tell(stream: TextIO) -> None:
            wait = patience
            while not ended.wait(wait):
                _say(stream, f"{name}: {_progress(*reached[0], time.monotonic() - start)}")
                wait = min(2 * wait, max(OFTEN, patience))

        with open(os.dup(descriptor), "w", encoding=sys.stderr.encoding) as stream:
            thread = threading.Thread(target=tell, args=(stream,), daemon=True)
            thread.start()
            try:
                yield lambda done, total: reached.__setitem__(0, (done, total))
            finally:
                ended.set()
                thread.join()
            if (seconds := time.monotonic() - start) >= patience:
                _say(stream, f"{name}: done in {_span(seconds)}")

    return display


def _say(stream: TextIO, line: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        print(f"edgeqwt: {line}", file=stream, flush=True)


def _progress(done: int, total: int | None, seconds: float) -> str:
    """How far a stage is, and how long it will take yet if it goes on as it did."""
    if not total:
        return f"{_span(seconds)}"
    left = f", about {_span(seconds / done * (total - done))} left" if done else ""
    return f"{done} of {total}, {_span(seconds)}{left}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def print_json(value: Any) -> None:
    """A frozen dataclass, or plain data with some in it, as JSON on standard output."""
    print(json.dumps(finite(plain(value)), indent=2, default=str, allow_nan=False))


def answer(json: bool, data: Any, show: Callable[[Console], object]) -> None:
    """Prints data as JSON, where that is asked for, or shows it for people."""
    if json:
        print_json(data)
    else:
        show(console())


def show_table(
    out: Console,
    title: str,
    header: Row,
    rows: Sequence[Row],
    *,
    texts: int = 1,
    last: int = 0,
    styles: Mapping[tuple[int, int], str] | None = None,
    spare: Sequence[int] = (),
) -> list[str]:
    """A table whose first column takes the space that is left; of names that do not fit there both ends are shown.

    Args:
        out: where it goes.
        title: a line above it.
        header: column names, of one or two lines.
        rows: cells; columns that are empty in every row are left out.
        texts: so many columns at the left hold words, the others numbers.
        last: so many rows at the end stand apart.
        styles: of cells, by row and column; terminals without colours show none.
        spare: columns that are left out where there is too little room for all, the first of them first.

    Returns:
        the names of those that were left out.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    kept = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    needed = {i: max(len(cell) for cell in (*header[i].splitlines(), *(row[i] for row in rows))) for i in kept}
    room, left = out.width - min(needed[0], out.width // 3), list[str]()
    for i in spare:
        widths = _narrowed([needed[k] for k in kept[1:]], room)
        if i in kept and sum(width + GAP for width in widths) > room:
            kept.remove(i)
            left.append(" ".join(header[i].split()))
    widths = _narrowed([needed[k] for k in kept[1:]], room)
    space = max(12, out.width - sum(width + GAP for width in widths))
    shown = dict(zip(kept, (space, *widths), strict=True))
    for i in kept:
        lines = "\n".join(ends_of(line, shown[i]) for line in header[i].splitlines())
        table.add_column(lines, justify="left" if i < texts else "right", no_wrap=True)
    found = styles or {}
    for k, row in enumerate(rows):
        cells = [
            Text(printable(ends_of(row[0], space)), found.get((k, 0), "")),
            *(Text(printable(ends_of(row[i], shown[i])), found.get((k, i), "")) for i in kept[1:]),
        ]
        table.add_row(*cells, end_section=k == len(rows) - last - 1)
    out.print()
    out.print(title, style="bold")
    out.print(table)
    return left


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns where the widest, which hold words, give way until all fit into `room`; numbers stay whole."""
    cap = max(widths, default=0)
    while cap > WORDS and sum(min(width, cap) + GAP for width in widths) > room:
        cap -= 1
    return [min(width, cap) for width in widths]


def show_facts(out: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Names and sentences, the sentences aligned; a name that repeats is shown once, a long one above its sentence."""
    from rich.text import Text

    for k, (name, sentence) in enumerate(facts):
        label = "" if k and facts[k - 1][0] == name else printable(name)
        if len(label) >= LABEL:
            out.print(Text(label, LABELS.get(name, "bold")))
            label = ""
        first, *others = textwrap.wrap(printable(sentence), max(20, out.width - LABEL), break_on_hyphens=False) or [""]
        out.print(Text.assemble((label.ljust(LABEL), LABELS.get(name, "bold")), first))
        for line in others:
            out.print(" " * LABEL + line)


def plain(value: Any) -> Any:
    """Frozen dataclasses as plain data, at any depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def finite(value: Any) -> Any:
    """Plain data with null for every number that JSON does not have: infinities and NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def first_name(name: str) -> str:
    """The first of the names of merged ops, which TensorFlow's converter joins with semicolons."""
    return name.partition(";")[0] or name


def ends_of(name: str, space: int) -> str:
    """A long name without its middle: both of its ends tell something, the last one more."""
    if len(name) <= space:
        return name
    head = space // 3
    return f"{name[:head]}…{name[len(name) - space + head + 1 :]}"
