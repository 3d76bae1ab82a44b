"""What a build wrote into its output folder, file by file: so that the next one knows what is somebody's work.

The manifest is a text that `sha256sum --check` reads, in the folder itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeqwt.regular_files import json_object

MODEL, FLOAT_MODEL, PLAIN_MODEL = "model.tflite", "float.tflite", "plain.tflite"
LOG, REPORT = "conversion.log", "report.json"
PAGE, DETAILS = "report.html", "details.json"
MANIFEST = "edgeqwt.sha256"
FILES = frozenset({MODEL, FLOAT_MODEL, PLAIN_MODEL, LOG, REPORT, PAGE, DETAILS})
EXPLORER = "model_explorer"  # a folder of node data for Model Explorer
PACKAGE = "package"  # a folder; the report lists its files
SCHEMA: Final = "edgeqwt.report"  # in the report: what tells a folder of ours from somebody's
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Strange:
    """What a build would lose of somebody's in an output folder.

    Attributes:
        added: files that no build wrote.
        edited: files that a build wrote, and that changed since.
    """

    added: tuple[str, ...]
    edited: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.edited)

    def sentence(self, path: Path) -> str:
        """What there is, in words."""
        if self.added:
            more = _more(self.added)
            edited = f", and {self.edited[0]!r}, which was edited since its build" if self.edited else ""
            return f"{path} holds {self.added[0]!r}{more}, which no build made{edited}"
        return f"{path} holds {self.edited[0]!r}{_more(self.edited)}, which was edited since its build"


def _more(names: tuple[str, ...]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def write_manifest(folder: Path) -> None:
    """Writes down what is in a folder that a build just filled; a folder with a manifest is a finished one."""
    lines = [f"{_hash(folder / name)}  {name}\n" for name in files(folder)]
    part = folder / f"{MANIFEST}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.rename(folder / MANIFEST)


def strange(folder: Path) -> Strange:
    """What a folder holds besides what a build wrote there.

    Raises:
        OSError: a file cannot be read.
    """
    hashes = _manifest(folder)
    known = _before_manifests(folder) if hashes is None else hashes.keys() | {MANIFEST}
    found = [name for name in files(folder) if name != MANIFEST or hashes is None]
    return Strange(
        tuple(name for name in found if name not in known),
        tuple(name for name in found if hashes and name in hashes and _hash(folder / name) != hashes[name]),
    )


def files(folder: Path) -> list[str]:
    """Everything in a folder but folders, links to such included, in order."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _hash(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "none"  # no build makes such
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path) -> Mapping[str, str] | None:
    """Hashes by name; None where there is no manifest, or none that a build wrote."""
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    found = [_LINE.fullmatch(line) for line in lines]
    return {match[2]: match[1] for match in found if match} if lines and all(found) else None


def _before_manifests(folder: Path) -> frozenset[str]:
    """What builds wrote before they wrote manifests: one, or one per length of sequences in folders of it."""
    apart = {f"{part.name}/{name}" for part in folder.glob("seq*") for name in _reported(part)}
    return _reported(folder) | apart


def _reported(folder: Path) -> frozenset[str]:
    found = json_object(folder / REPORT)
    if found.get("schema") != SCHEMA:
        return frozenset()
    package = found.get("package")
    names = [f"{PACKAGE}/{name}" for name in package if isinstance(name, str)] if isinstance(package, list) else []
    return FILES | frozenset(names)
