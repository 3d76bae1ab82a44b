"""What goes to the terminal, and how JSON is written: the parts that reports and benchmarks share."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeqwt.errors import printable
from edgeqwt.progress import Advance, Display, silent

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # of tables where standard output is no terminal
GAP = 2  # spaces between columns
LABEL = len("TFLite Micro") + GAP

Row = Sequence[str]


def console() -> Console:
    """Standard output; names of tensors are printed as they are, not as markup."""
    from rich.console import Console
    from rich.text import Text

    class Printable(Console):
        """Texts come from files, too: none may move the cursor, colour the terminal or write to the left."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text, lines=True), **options)

    return Printable(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH)


def markdown(text: str) -> str:
    """A name or sentence of somebody else's as plain text of one line in Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(" ".join(text.split())))


def markdown_code(text: str) -> str:
    """A name of somebody else's as the inside of a Markdown code span, in tables as well."""
    return printable(" ".join(text.split())).replace("`", "'").replace("|", "\\|")


def progress_display() -> Display:
    """Progress bars on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return silent
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Count(ProgressColumn):
        """How many of how many; nothing where nobody knows."""

        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")

    # Its own descriptor: while native libraries run, descriptor 2 leads to a log.
    descriptor = os.dup(sys.stderr.fileno())

    @contextmanager
    def display(name: str) -> Iterator[Advance]:
        columns = (SpinnerColumn(), TextColumn("{task.description:24}"), BarColumn(), TimeElapsedColumn(), Count())
        with (
            open(os.dup(descriptor), "w", encoding=sys.stderr.encoding) as terminal,
            Progress(*columns, console=Console(file=terminal), transient=True) as progress,
        ):
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return display


def print_json(value: Any) -> None:
    """A frozen dataclass, or plain data with some in it, as JSON on standard output."""
    print(json.dumps(finite(plain(value)), indent=2, default=str, allow_nan=False))


def show_table(
    out: Console,
    title: str,
    header: Row,
    rows: Sequence[Row],
    *,
    texts: int = 1,
    last: int = 0,
    styles: Mapping[tuple[int, int], str] | None = None,
) -> None:
    """A table whose first column takes the space that is left; of names that do not fit there both ends are shown.

    Args:
        out: where it goes.
        title: a line above it.
        header: column names, of one or two lines.
        rows: cells; columns that are empty in every row are left out.
        texts: so many columns at the left hold words, the others numbers.
        last: so many rows at the end stand apart.
        styles: of cells that hold figures, by row and column; terminals without colours show none.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    kept = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    widths = [max(len(cell) for cell in (*header[i].splitlines(), *(row[i] for row in rows))) for i in kept[1:]]
    space = max(12, out.width - sum(width + GAP for width in widths))
    for i in kept:
        table.add_column(header[i], justify="left" if i < texts else "right", no_wrap=True)
    found = styles or {}
    for k, row in enumerate(rows):
        cells: list[str | Text] = [
            ends_of(row[0], space),
            *(Text(printable(row[i]), found.get((k, i), "")) for i in kept[1:]),
        ]
        table.add_row(*cells, end_section=k == len(rows) - last - 1)
    out.print()
    out.print(title, style="bold")
    out.print(table)


def show_facts(out: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Names and sentences, the sentences aligned; a name that repeats is shown once, a long one above its sentence."""
    from rich.text import Text

    for k, (name, sentence) in enumerate(facts):
        label = "" if k and facts[k - 1][0] == name else printable(name)
        if len(label) >= LABEL:
            out.print(Text(label, "bold"))
            label = ""
        first, *others = textwrap.wrap(printable(sentence), max(20, out.width - LABEL), break_on_hyphens=False) or [""]
        out.print(Text.assemble((label.ljust(LABEL), "bold"), first))
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


def ends_of(name: str, space: int) -> str:
    """A long name without its middle: both of its ends tell something, the last one more."""
    if len(name) <= space:
        return name
    head = space // 3
    return f"{name[:head]}…{name[len(name) - space + head + 1 :]}"
