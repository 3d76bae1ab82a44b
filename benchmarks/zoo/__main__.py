"""Every family of torchvision, timm and transformers through one build each: what converts, and how good it comes out.

Each network is built in a process of its own, which may crash, hang or ask for too much memory: that is a row, too.
Rows are kept as they come, so that a sweep that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.zoo.networks import names
from benchmarks.zoo.one import AFTER_PARITY, build
from benchmarks.zoo.table import CONVERTED, DEFAULT, DONE, EITHER, MANY, SMOOTH, WHITE, Row, Way, line, table, way

ROOT = Path(__file__).resolve().parents[2]
PRELOAD = [
    "torch", "torch.export", "torch.onnx", "torchvision", "timm", "transformers.modeling_utils", "onnx", "onnxruntime",
    "ai_edge_litert.interpreter", "edgeqwt.api", "edgeqwt.converters.convert", "benchmarks.zoo.one",
    "benchmarks.zoo.data",
]  # fmt: skip


def main() -> None:
    """The sweep, or with --table what it has found so far."""
    parser = argparse.ArgumentParser(prog="zoo", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="where rows are kept, one per line")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names, such as 'timm/*' or '*vit*,*/Bert'")
    parser.add_argument("--redo", choices=("failed", "all"), help="build again what did not get through, or everything")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--small", action="store_true", help="images of 96 pixels where a network takes them")
    parser.add_argument("--convert", action="store_true", help="up to the proof of the conversion alone")
    parser.add_argument("--filters", choices=(SMOOTH, WHITE), default=SMOOTH, help="of random convolutions")
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument(
        "--remedies", action="store_true", help="tried, too, below 25 dB; no row's figures depend on them"
    )
    parser.add_argument("--samples", type=int, default=MANY)
    parser.add_argument("--seconds", type=int, default=600, help="that one network may take")
    parser.add_argument("--memory", type=int, default=12, help="GiB that one network may take")
    parser.add_argument("--table", action="store_true", help="build nothing, show what was found so far")
    options = parser.parse_args()
    rows = read(options.results)
    for variable, value in surroundings().items():
        os.environ.setdefault(variable, value)
    if not options.table:
        everything, commit = names(), _commit()
        wanted = dict.fromkeys(name for text in options.only.split(",") for name in fnmatch.filter(everything, text))
        ways = [Way(kind, not options.small, options.samples, options.recipe) for kind in (EITHER, options.filters)]
        known = {name: next((rows[name, how] for how in ways if (name, how) in rows), None) for name in wanted}
        missing = [name for name, row in known.items() if row is None or again(row, options)]
        with ThreadPoolExecutor(options.jobs) as pool, options.results.open("a", encoding="utf-8") as file:
            for job in as_completed([pool.submit(one, name, options) for name in missing]):
                row = {**job.result(), "commit": commit}
                rows[row["name"], way(row)] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(line(row), flush=True)
    print(table(list(rows.values())))


def surroundings() -> dict[str, str]:
    """Environment variables for the networks' processes, where they are not set."""
    found = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # onnx2tf's programs lie in edgeqwt's own environment, not in the one that has the networks.
    own = ROOT / ".venv" / "bin" / "python"
    return {**found, "EDGEQWT_ONNX2TF_PYTHON": str(own)} if own.exists() else found


def _descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that these started; converters have sessions of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is read
        found += children.get(child, ())
    return found


def _commit() -> str:
    """Of the tree that is measured, with a plus where files were changed since; empty outside of a repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=7", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def read(path: Path) -> dict[tuple[str, Way], Row]:
    """The rows by name and by how the network was built, the last of each."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return {(row["name"], way(row)): row for row in rows}


def again(row: Row, options: argparse.Namespace) -> bool:
    """Whether a network that was built before is to be built once more."""
    if options.redo == "all":
        return True
    if row["status"] == CONVERTED:
        return not options.convert
    return options.redo == "failed" and row["status"] not in DONE


def one(name: str, options: argparse.Namespace) -> Row:
    """One network's row, whatever happens to its process."""
    # Forked off a process that has only imported: torch, timm and transformers take longer to import than many
    # a network takes to build.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    row: Row = {"name": name, "filters": options.filters, "recipe": options.recipe, "samples": options.samples}
    row |= {"native": not options.small, "seconds": options.seconds}
    with tempfile.TemporaryDirectory(prefix="zoo") as folder:
        log, found = Path(folder, "log"), Path(folder, "row.json")
        child = context.Process(target=build, args=(name, options, log, found))
        child.start()
        child.join(options.seconds)
        if child.is_alive():
            for pid in (*_descendants(child.pid or -1), child.pid or -1):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.join()
            message = f"more than {options.seconds} s; {_last_stage(log)}"
            return {**row, "status": "timed out", "converted": _converted(log), "message": message}
        if found.exists():
            return {**row, **json.loads(found.read_text("utf-8"))}
        tail = log.read_text("utf-8", errors="replace").strip()[-300:] if log.exists() else ""
        message = f"exit {child.exitcode}; {_last_stage(log)}: {tail}"
        return {**row, "status": "crashed", "converted": _converted(log), "message": message}


def _converted(log: Path) -> bool:
    """Whether a build got beyond the proof of its conversion."""
    return log.exists() and f"stage: {AFTER_PARITY}" in log.read_text("utf-8", errors="replace")


def _last_stage(log: Path) -> str:
    """The stage that a build was in."""
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if line.startswith("stage: ")), "before any stage")


if __name__ == "__main__":
    main()
