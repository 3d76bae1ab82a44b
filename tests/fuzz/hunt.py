"""Many mutants through readers and commands, in a forked process, so that a dead one is counted, too.

    python -m tests.fuzz.hunt --count 100000            # every reader; `make fuzz` does it
    python -m tests.fuzz.hunt --only tflite onnx
    python -m tests.fuzz.hunt --commands --count 10000 [--models FILE.tflite ...]
    python -m tests.fuzz.hunt --only npz --first 40000 --seconds 250    # goes on from there, for so long

What is found is printed at once with the numbers that make the mutant again, and its file is kept where --keep says.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph import flatbuffer
from tests.fuzz.commands import ACCEPTED, one_command_fault
from tests.fuzz.forked import each
from tests.fuzz.mutate import mutant
from tests.fuzz.readers import READERS, fault, good

SECONDS = 20  # for one mutant
COMMANDS = "commands"
KINDS = (*READERS, COMMANDS)
TRIES = 6  # one in four is accepted
SUFFIXES = {
    "tflite": ".tflite",
    COMMANDS: ".tflite",
    "onnx": ".onnx",
    "npz": ".npz",
    "recipe": ".toml",
    "profile": ".toml",
}
Judge = Callable[[bytes, Path], str]


@dataclass
class Tally:
    """What a hunt found.

    Attributes:
        tried: mutants.
        accepted: those that the reader took, where the judge tells it.
        found: the number of a mutant, what happened.
    """

    tried: int = 0
    accepted: int = 0
    found: list[tuple[int, str]] = field(default_factory=list)


def hunt(
    originals: Sequence[bytes],
    kind: str,
    seed: int,
    numbers: range,
    judge: Judge,
    seconds: float = math.inf,
    tell: Callable[[int, str], None] = lambda index, said: None,
) -> Tally:
    """Tries mutants of good files.

    Args:
        originals: good files; mutant i is one of file i modulo their number.
        kind: says how they are changed.
        seed: of all of them.
        numbers: of the mutants.
        judge: what is wrong about a mutant, in words; empty where nothing is. It runs in a forked process.
        seconds: after which no further mutant is tried.
        tell: is told of each mutant with which something is wrong.
    """

    def judged(index: int, folder: Path) -> str:
        said = judge(made(originals, kind, seed, index), folder)
        return said if said == ACCEPTED else " ".join(said.split())[:300]

    tally = Tally()
    for index, said in each(judged, numbers, SECONDS * (10 if kind == COMMANDS else 1), time.monotonic() + seconds):
        tally.tried += 1
        tally.accepted += said == ACCEPTED
        if said not in ("", ACCEPTED):
            tally.found.append((index, said))
            tell(index, said)
    return tally


def made(originals: Sequence[bytes], kind: str, seed: int, index: int) -> bytes:
    """The mutant of a number; for commands the first of some that the reader accepts, where one is among them."""
    original = originals[index % len(originals)]
    if kind != COMMANDS:
        return mutant(kind, seed, index, original)
    for k in range(TRIES):
        found = mutant("tflite", seed, TRIES * index + k, original)
        with contextlib.suppress(EdgeqwtError):
            flatbuffer.from_bytes(found)
            break
    return found


def main() -> int:
    """The command line; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="mutants for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each kind, after which it stops")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=None)
    parser.add_argument("--commands", action="store_true", help="accepted .tflite mutants, each through one command")
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="good .tflite files besides those made here")
    parser.add_argument("--keep", type=Path, help="folder for mutants that something was found with")
    options = parser.parse_args()
    found = [_hunted(kind, options) for kind in ([COMMANDS] if options.commands else options.only or list(READERS))]
    return int(any(found))


def _hunted(kind: str, options: argparse.Namespace) -> bool:
    """Tries mutants of one kind, prints what is wrong and how many they were; whether something is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        files = good("tflite" if kind == COMMANDS else kind, Path(folder))
    if kind in ("tflite", COMMANDS):
        files += [path.read_bytes() for path in options.models]

    def tell(index: int, said: str) -> None:
        print(f"  --seed {options.seed}, mutant {index}: {said}", flush=True)
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            name = f"{kind}_{options.seed}_{index}{SUFFIXES.get(kind, '')}"
            (options.keep / name).write_bytes(made(files, kind, options.seed, index))

    start, numbers = time.monotonic(), range(options.first, options.first + options.count)
    judge = one_command_fault if kind == COMMANDS else lambda data, folder: fault(READERS[kind], data, folder)
    if kind != COMMANDS:  # forked processes have what the reader imports, which would count as a mutant's time
        with tempfile.TemporaryDirectory() as folder:
            judge(files[0], Path(folder))
    tally = hunt(files, kind, options.seed, numbers, judge, options.seconds, tell)
    died = sum(said.startswith("DIED") for _, said in tally.found)
    print(
        f"{kind}: {tally.tried} mutants from {options.first}, {tally.accepted} accepted, {died} died, "
        f"{len(tally.found) - died} other faults, {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return bool(tally.found)


if __name__ == "__main__":
    sys.exit(main())
