"""Whether a source archive holds the repository, and a wheel the package: python scripts/release_contents.py FILE..."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_PACKED = (".ci/", ".gitignore", "edgeqwt/converters", "edgeqwt/target")  # the last two are links to folders


def main() -> None:
    """Names what is missing; ends with status 1 where something is."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    committed = {name for name in listed.splitlines() if not name.startswith(NOT_PACKED)}
    missing = []
    for path in map(Path, sys.argv[1:]):
        if path.suffix == ".whl":
            names = set(zipfile.ZipFile(path).namelist())
            wanted = {"edgeqwt/py.typed", "edgeqwt/converters/__init__.py", "edgeqwt/target/__init__.py"}
        else:
            with tarfile.open(path) as archive:
                names = {name.partition("/")[2] for name in archive.getnames()}
            wanted = committed
        missing += [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
        print(f"{path.name}: {len(names)} files, {path.stat().st_size:,} bytes")
    if missing:
        sys.exit("\n".join(missing))


if __name__ == "__main__":
    main()
