"""Many mutants through readers and commands, each batch in a forked process, so that a dead one is counted, too.

    python -m tests.fuzz.hunt --count 100000            # every reader; `make fuzz` does it
    python -m tests.fuzz.hunt --only tflite onnx
    python -m tests.fuzz.hunt --commands --count 10000 [--models FILE.tflite ...]

What is found is printed with the numbers that make the mutant again, and its file is kept where --keep says.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeqwt.children import limit_memory
from tests.fuzz.commands import command_fault
from tests.fuzz.mutate import mutant
from tests.fuzz.readers import READERS, fault, good

SECONDS = 20  # for one mutant
MEMORY = 8 << 30  # bytes of address space beyond what the process has to begin with
KINDS = (*READERS, "commands")
SUFFIXES = {
    "tflite": ".tflite",
    "commands": ".tflite",
    "onnx": ".onnx",
    "npz": ".npz",
    "recipe": ".toml",
    "profile": ".toml",
}


@dataclass
class Tally:
    """What a hunt found.

    Attributes:
        tried: mutants.
        found: the number of a mutant, what happened.
    """

    tried: int = 0
    found: list[tuple[int, str]] = field(default_factory=list)


def hunt(originals: Sequence[bytes], kind: str, seed: int, count: int, judge: Callable[[bytes, Path], str]) -> Tally:
    """Tries mutants of good files.

    Args:
        originals: good files; mutant i is one of file i modulo their number.
        kind: says how they are changed.
        seed: of all of them.
        count: how many.
        judge: what is wrong about a mutant, in words; empty where nothing is. It runs in a forked process.
    """
    tally, at = Tally(), 0
    while at < count:
        for index, said in _batch(originals, kind, seed, range(at, count), judge):
            at = index + 1
            if said:
                tally.found.append((index, said))
    tally.tried = count
    return tally


def _batch(
    originals: Sequence[bytes], kind: str, seed: int, numbers: range, judge: Callable[[bytes, Path], str]
) -> Iterator[tuple[int, str]]:
    """What a forked process says of each, until it has done all or has ended."""
    source, sink = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(source)
            _work(originals, kind, seed, numbers, judge, Path(folder), sink)
        os.close(sink)
        last, said = numbers.start - 1, ""
        with os.fdopen(source, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                number, _, said = line.rstrip("\n").partition(" ")
                last = int(number)
                yield last, said
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0 and not said.startswith("HARNESS"):
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            yield last + 1, f"DIED: {how}"


def _work(
    originals: Sequence[bytes],
    kind: str,
    seed: int,
    numbers: range,
    judge: Callable[[bytes, Path], str],
    folder: Path,
    sink: int,
) -> None:
    """Judges mutants and tells of each on `sink`; ends the process, whatever happens."""
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_memory(0, MEMORY)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for index in numbers:
            signal.alarm(SECONDS * (10 if kind == "commands" else 1))
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                data = mutant("tflite" if kind == "commands" else kind, seed, index, originals[index % len(originals)])
                said = judge(data, folder)
            os.write(sink, f"{index} {' '.join(said.split())[:300]}\n".encode("utf-8", "replace"))
        os._exit(0)
    except BaseException as error:
        os.write(sink, f"{index} HARNESS {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(1)


def main() -> int:
    """The command line; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="mutants for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=None)
    parser.add_argument("--commands", action="store_true", help="accepted .tflite mutants through the commands")
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="good .tflite files besides those made here")
    parser.add_argument("--keep", type=Path, help="folder for mutants that something was found with")
    options = parser.parse_args()
    failed = False
    for kind in ["commands"] if options.commands else options.only or list(READERS):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            files = good("tflite" if kind == "commands" else kind, Path(folder))
        if kind in ("tflite", "commands"):
            files += [path.read_bytes() for path in options.models]
        judge = (
            command_fault if kind == "commands" else lambda data, judged, kind=kind: fault(READERS[kind], data, judged)
        )
        tally = hunt(files, kind, options.seed, options.count, judge)
        died = sum(said.startswith("DIED") for _, said in tally.found)
        seconds = time.monotonic() - start
        print(f"{kind}: {tally.tried} mutants, {died} died, {len(tally.found) - died} other faults, {seconds:.0f} s")
        for index, said in tally.found[:200]:
            print(f"  --seed {options.seed}, mutant {index}: {said}")
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                data = mutant("tflite" if kind == "commands" else kind, options.seed, index, files[index % len(files)])
                (options.keep / f"{kind}_{options.seed}_{index}{SUFFIXES.get(kind, '')}").write_bytes(data)
        sys.stdout.flush()
        failed |= bool(tally.found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
