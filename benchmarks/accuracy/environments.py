"""A virtual environment for each peer, below the cache folder and never in the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from accuracy.plan import Method

ROOT = Path(__file__).resolve().parents[2]
MARK = "requirements.sha256"  # written when an environment is complete


def cache() -> Path:
    """Where environments, inputs and results are kept: $EDGEQWT_PEERS, or below the user's cache folder."""
    named = os.environ.get("EDGEQWT_PEERS")
    if named:
        return Path(named).resolve()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "edgeqwt-peers"


def python(method: Method) -> Path:
    """The interpreter of a method's environment; the environment is made, or made anew, where it does not fit.

    Raises:
        RuntimeError: it cannot be made; the message is the last line that the installer said.
    """
    requirements = method.requirements
    if requirements is None:
        return Path(sys.executable)
    place = cache() / method.script / "venv"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    mark = place / MARK
    if not (mark.is_file() and mark.read_text() == wanted):
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        print(f"installing {method.peer} into {place}", file=sys.stderr)
        base = _said(["bash", str(ROOT / "scripts" / "find_python.sh")])
        _said([base, "-m", "venv", str(place)])
        install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
        _said([str(place / "bin" / "python"), *install, "--requirement", str(requirements)])
        mark.write_text(wanted)
    return place / "bin" / "python"


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines() or [""]
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {lines[-1]}")
    return lines[-1]
