"""Runs the notebooks of examples/notebooks from start to end, in a copy: python scripts/notebooks.py [NAME...]."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "notebooks"


def main() -> None:
    """Runs those that are named, or all; an error in a cell ends it with that cell's traceback."""
    import nbformat
    from nbclient import NotebookClient

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="without .ipynb; all if none is named")
    names = parser.parse_args().names
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        examples = shutil.copytree(ROOT / "examples", Path(folder) / "examples")
        for path in sorted((examples / "notebooks").glob("*.ipynb")):
            if names and path.stem not in names:
                continue
            start = time.perf_counter()
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
            for cell in notebook.cells:
                for output in cell.get("outputs", ()):
                    print(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
            print(f"{path.stem}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
