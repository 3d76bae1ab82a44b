"""Rules that hold for the project as a whole: what is imported when, what is packed, what is committed, set-up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE_FOLDERS = ("edgeqwt", "converters", "targets")


def modules(folder: Path, name: str) -> Iterator[str]:
    """Dotted names of a package's modules, without following links."""
    for path in sorted(folder.rglob("*.py", recurse_symlinks=False) if sys.version_info >= (3, 13) else folder.rglob("*.py")):
        yield ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
