"""A few of the mutants that `make fuzz` tries: about a thousand for the readers, some for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.commands import command_fault
from tests.fuzz.hunt import hunt
from tests.fuzz.mutate import mutant
from tests.fuzz.readers import READERS, fault, good

COUNTS = {"tflite": 300, "onnx": 150, "npz": 250, "image": 200, "recipe": 50, "profile": 50}


@pytest.mark.parametrize("kind", READERS)
def test_readers_read_or_refuse(tmp_path: Path, kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    originals = good(kind, tmp_path)
    for data in originals:
        READERS[kind](data, tmp_path)
    tally = hunt(originals, kind, 0, range(COUNTS[kind]), lambda data, folder: fault(READERS[kind], data, folder))
    assert (tally.tried, tally.found) == (COUNTS[kind], [])


@pytest.mark.requires("torch")
def test_commands_end_as_the_table_of_exit_codes_says(tmp_path: Path) -> None:
    tally = hunt(good("tflite", tmp_path)[:2], "commands", 5, range(6), command_fault)
    assert (tally.tried, tally.found) == (6, [])


def test_mutants_are_others_and_the_same_again(tmp_path: Path) -> None:
    data = good("tflite", tmp_path)[0]
    first = [mutant("tflite", 0, i, data) for i in range(20)]
    assert first == [mutant("tflite", 0, i, data) for i in range(20)]
    assert len({*first, data}) > 15


def die(data: bytes, folder: Path) -> str:
    """Judges badly: ends the process at some mutants."""
    import os
    import signal

    if data[-1] % 3 == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "odd" if data[-1] % 3 == 1 else ""


def test_a_hunt_counts_dead_processes_and_goes_on() -> None:
    originals = [bytes([0] * 64 + [i]) for i in range(9)]
    tally = hunt(originals, "image", 1, range(30), die)
    expected = [mutant("image", 1, i, originals[i % 9])[-1] % 3 for i in range(30)]
    assert [i for i, said in tally.found if said == "DIED: signal SIGSEGV"] == [
        i for i in range(30) if expected[i] == 0
    ]
    assert [i for i, said in tally.found if said == "odd"] == [i for i in range(30) if expected[i] == 1]
