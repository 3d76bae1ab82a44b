"""One method at a time, in a process of its own with a time limit; results are kept and found again."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from common import figures, shared

from accuracy import environments
from accuracy.children import child
from accuracy.inputs import LABELS, REFERENCE
from accuracy.peers.work import FILE, LOGITS, RESULT
from accuracy.plan import HERE, Method

RECORD, LOG = "record.json", "log.txt"
EVALUATION_LIMIT = 3600  # seconds
OURS = ("edgeqwt", "converters", "targets")
"""Folders whose contents decide what our own rows show."""


@dataclass(frozen=True)
class Record:
    """What is known of one method.

    Attributes:
        label: of the method.
        commit: at which it was measured, with "+" where files had been changed.
        accuracy, agreement, sqnr: None where `failure` tells why.
        seconds: of the quantization, without imports and evaluation.
        peak_mib: of its process, at the end of the quantization.
        whole_seconds, cpu_seconds: of its process up to then, imports included: by the clock, and on all cores.
        failure: one line; empty where it went well.
        limit: seconds that it was given.
    """

    label: str
    commit: str
    accuracy: float | None = None
    agreement: float | None = None
    sqnr: float | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    whole_seconds: float | None = None
    cpu_seconds: float | None = None
    failure: str = ""
    limit: float = 0


def place(method: Method, inputs: Path) -> Path:
    """The folder of a method's result: another one when anything changes that the result depends on."""
    digest = hashlib.sha256(inputs.name.encode())
    sources = [method.program, HERE / "peers" / "work.py"]
    if method.requirements is not None:
        sources.append(method.requirements)
    else:
        folders = (environments.ROOT / name for name in OURS)
        sources += sorted(p for f in folders for p in f.rglob("*") if p.suffix in (".py", ".toml"))
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    slug = re.sub(r"[^a-z0-9]+", "-", method.key.lower()).strip("-")
    return environments.cache() / "results" / method.script / slug / digest.hexdigest()[:12]


def known(method: Method, inputs: Path) -> Record | None:
    """What an earlier run found."""
    path = place(method, inputs) / RECORD
    return Record(**json.loads(path.read_text())) if path.is_file() else None


def measured(method: Method, inputs: Path, limit: float, retry: bool) -> Record:
    """The record of a method, from an earlier run where there is one.

    Args:
        method: what to run.
        inputs: the folder that `inputs.prepare` made.
        limit: seconds for the quantization and the tool's own evaluation.
        retry: run again what failed before; what exceeded a smaller limit is always run again.
    """
    found = known(method, inputs)
    if found is not None:
        outgrown = found.limit < limit and found.failure.startswith("time limit")
        if not found.failure or not (retry or outgrown):
            return found
    folder = place(method, inputs)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = _run(method, inputs, folder, limit)
    except (RuntimeError, subprocess.SubprocessError) as failure:
        record = Record(method.label, commit(), failure=reason(failure, folder), limit=limit)
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=1))
    return record


def _run(method: Method, inputs: Path, folder: Path, limit: float) -> Record:
    for name in (RESULT, LOGITS, FILE):
        (folder / name).unlink(missing_ok=True)
    settings = {"EDGEQWT_SHARED": str(shared())}
    program = [str(environments.python(method)), str(method.program), method.key, str(inputs), str(folder)]
    child(program, folder / LOG, limit, folder, settings)
    if (folder / FILE).is_file():
        evaluate = [sys.executable, "-m", "accuracy.evaluate", str(folder / FILE), str(inputs), str(folder / LOGITS)]
        child(evaluate, folder / LOG, EVALUATION_LIMIT, HERE.parent, settings)
    parts = json.loads((folder / RESULT).read_text())
    return Record(method.label, commit(), **judged(folder / LOGITS, inputs), **parts, limit=limit)


def reason(failure: Exception, folder: Path) -> str:
    """A failure in one line, without the machine's own path to the result."""
    return " ".join(str(failure).replace(f"{folder}/", "").split())


def judged(logits: Path, inputs: Path) -> dict[str, float]:
    """Accuracy, agreement and SQNR of a file of logits against PyTorch's."""
    found = figures(np.load(logits), np.load(inputs / REFERENCE), np.load(inputs / LABELS))
    return asdict(found)


def commit() -> str:
    """The checkout's commit, with "+" where files had been changed."""
    parts = [
        subprocess.run(["git", *command], cwd=environments.ROOT, capture_output=True, text=True).stdout.strip()
        for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", *OURS])
    ]
    return parts[0] + ("+" if parts[1] else "")
