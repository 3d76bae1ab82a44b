"""The results table of a sweep: SQLite, one row for each build, written the moment that it ends."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from edgeqwt.disk import FREE_SPACE, MARK, cannot_write, take
from edgeqwt.errors import InputError

FILE = "sweep.sqlite"
VERSION = 2
"""Of the table's columns."""
WAITING, BUILT, FAILED, LOST = "waiting", "built", "failed", "lost"
"""What became of a cell. What is lost, with its process or machine, is begun again by the next run."""
FINISHED = (BUILT, FAILED)
LOCK = f".{MARK}-lock"
NO_TABLE = "Name the folder that `edgeqwt sweep PLAN --output FOLDER` made."


@dataclass(frozen=True)
class Row:
    """One build of a sweep; None: not known.

    Attributes:
        key: SHA-256 of all that decides the result.
        model, calibration, target, recipe, precision: the plan's cell.
        status: one of waiting, built, failed, lost.
        message, hint, exit_code: of the error, where it failed or was lost.
        kept: the variant that was kept.
        plain_db, kept_db: SQNR of what varies at the worst output, on held-out samples: of plain post-training
            quantization, and of the file.
        agreement: share of rows whose largest element is the float model's, at the worst output.
        score: of the file on the evaluation data, by the first metric.
        bytes: of the file.
        cycles: of one inference, where the target's compiler tells.
        bit_operations: of one inference: multiplications times the bits of weights and activations.
        latency_ms: shortest run with the machine's default kernels, where it was asked for.
        seconds: of the build, wall-clock.
        peak_mib: memory of its process at most.
        sha256: of the file.
        folder: of its output, relative to the sweep's.
        ended: date and time.
    """

    key: str
    model: str
    calibration: str
    target: str
    recipe: str
    precision: str
    status: str = WAITING
    message: str = ""
    hint: str = ""
    exit_code: int | None = None
    kept: str = ""
    plain_db: float | None = None
    kept_db: float | None = None
    agreement: float | None = None
    score: float | None = None
    bytes: int | None = None
    cycles: float | None = None
    bit_operations: int | None = None
    latency_ms: float | None = None
    seconds: float | None = None
    peak_mib: int | None = None
    sha256: str = ""
    folder: str = ""
    ended: str = ""

    def ending(self) -> Row:
        """The same, with the time that it is now."""
        return replace(self, ended=datetime.now(UTC).isoformat(timespec="milliseconds"))


COLUMNS = tuple(field.name for field in fields(Row))


class Table:
    """The table of one sweep; one process writes it at a time, any number read it.

    Args:
        folder: of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.connection = sqlite3.connect(folder / FILE, isolation_level=None, timeout=30.0)
        self.connection.execute("PRAGMA synchronous = FULL")
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            what = f"{folder / FILE} has version {version} of the table, not {VERSION}"
            raise InputError(what, "Sweep into another folder.")
        if version == 0:
            named = ", ".join(f"{name} PRIMARY KEY" if name == "key" else name for name in COLUMNS)
            with self.transaction():
                self.connection.execute(f"CREATE TABLE IF NOT EXISTS builds ({named}, place)")
                self.connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes, or none."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:  # SQLite itself has ended it where the disk is full
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def plan(self, rows: Iterable[Row]) -> None:
        """Makes these the rows of the current plan, in their order; those that are there already keep what they have.

        Rows of earlier plans stay in the table, without a place.
        """
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        with self.transaction():
            self.connection.execute("UPDATE builds SET place = NULL")
            for place, row in enumerate(rows):
                self.connection.execute(f"INSERT OR IGNORE INTO builds VALUES ({marks})", (*astuple(row), place))
                names = {"model": row.model, "calibration": row.calibration, "target": row.target, "recipe": row.recipe}
                setters = ", ".join(f"{name} = ?" for name in names)
                change = f"UPDATE builds SET place = ?, {setters} WHERE key = ?"
                self.connection.execute(change, (place, *names.values(), row.key))

    def write(self, row: Row) -> None:
        """Puts a row in the place of the one with its key; on the disk when this returns."""
        setters = ", ".join(f"{name} = ?" for name in COLUMNS)
        with self.transaction():
            self.connection.execute(f"UPDATE builds SET {setters} WHERE key = ?", (*astuple(row), row.key))

    def rows(self) -> tuple[Row, ...]:
        """Those of the current plan, in its order."""
        chosen = f"SELECT {', '.join(COLUMNS)} FROM builds WHERE place IS NOT NULL ORDER BY place"
        return tuple(Row(*values) for values in self.connection.execute(chosen))


@contextmanager
def opened(folder: Path) -> Iterator[Table]:
    """The table of a folder, for the one process that may write it; the folder is made where there is none.

    Raises:
        InputError: the folder holds something else, cannot be written to or is full, or another sweep runs there.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", "Name a folder for the sweep.")
    if folder.is_dir() and not (folder / FILE).exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise InputError(f"{folder} holds something, but no sweep", "Name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        if take(lock) is False:
            raise InputError(f"another sweep is writing to {folder}", "Wait until it ends, or name another folder.")
        try:
            with closing((table := Table(folder)).connection):
                yield table
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the module's own errors have none
            hint = FREE_SPACE if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) else "Name another folder."
            raise InputError(f"{folder / FILE} cannot be used: {error}", hint) from None
    finally:
        os.close(lock)


def read(folder: Path) -> tuple[Row, ...]:
    """The rows of a sweep's current plan, while it runs or afterwards.

    Raises:
        InputError: there is no sweep in the folder.
    """
    if not (folder / FILE).is_file():
        raise InputError(f"{folder} holds no sweep", NO_TABLE)
    try:
        table = Table(folder)
        with closing(table.connection):
            return table.rows()
    except sqlite3.Error as error:
        raise InputError(f"{folder / FILE} cannot be read: {error}", NO_TABLE) from None


def counts(rows: Iterable[Row]) -> Mapping[str, int]:
    """How many rows there are of each status, those of none left out."""
    found = [row.status for row in rows]
    return {status: found.count(status) for status in (BUILT, FAILED, LOST, WAITING) if status in found}
