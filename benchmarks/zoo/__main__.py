"""Every family of torchvision, timm and transformers through one build each: what converts, and how good it comes out.

Each network is built in a process of its own, which may crash, hang or ask for too much memory: that is a row, too.
Rows are kept as they come, so that a sweep that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.zoo.networks import names
from benchmarks.zoo.table import DONE, Row, line, table

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """The sweep, or with --table what it has found so far."""
    parser = argparse.ArgumentParser(prog="zoo", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="where rows are kept, one per line")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names, such as 'timm/*' or '*vit*,*/Bert'")
    parser.add_argument("--redo", choices=("failed", "all"), help="build again what did not get through, or everything")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--native", action="store_true", help="at the networks' own resolutions")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=600, help="that one network may take")
    parser.add_argument("--memory", type=int, default=12, help="GiB that one network may take")
    parser.add_argument("--table", action="store_true", help="build nothing, show what was found so far")
    options = parser.parse_args()
    rows = read(options.results)
    if not options.table:
        patterns = options.only.split(",")
        wanted = [name for name in names() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        missing = [name for name in wanted if options.redo == "all" or name not in rows or again(rows[name], options)]
        with ThreadPoolExecutor(options.jobs) as pool, options.results.open("a", encoding="utf-8") as file:
            for job in as_completed([pool.submit(one, name, options) for name in missing]):
                row = job.result()
                rows[row["name"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(line(row), flush=True)
    print(table(list(rows.values())))


def read(path: Path) -> dict[str, Row]:
    """The rows by name, the last of each."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}


def again(row: Row, options: argparse.Namespace) -> bool:
    """Whether a network that was built before is to be built once more."""
    return options.redo == "failed" and row["status"] not in DONE


def one(name: str, options: argparse.Namespace) -> Row:
    """One network's row, whatever happens to its process."""
    command = [sys.executable, "-m", "benchmarks.zoo.one", name, "--samples", str(options.samples)]
    command += ["--recipe", options.recipe, "--memory", str(options.memory), *(["--native"] if options.native else [])]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # onnx2tf's programs lie in edgeqwt's own environment, not in the one that has the networks.
    own = ROOT / ".venv" / "bin" / "python"
    tools = {"EDGEQWT_ONNX2TF_PYTHON": str(own)} if own.exists() else {}
    environment = {**tools, **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    # In a session of its own: what it started itself ends with it when its time is over.
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    row: Row = {"name": name, "seconds": options.seconds}
    try:
        output, errors = child.communicate(timeout=options.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return {**row, "status": "timed out", "message": f"more than {options.seconds} s"}
    found = [text for text in output.splitlines() if text.startswith("@")]
    if found:
        return {**row, **json.loads(found[-1][1:])}
    return {**row, "status": "crashed", "message": f"exit {child.returncode}: {errors.strip()[-300:]}"}


if __name__ == "__main__":
    main()
