"""Calls in other processes: within limits, and with an error that says how a process ended."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pytest

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime.child import Child, EndedError, Limits
from edgeqwt.runtime.runners import InterpreterError
from edgeqwt.runtime.subprocess_runners import Host


def fill(size: int) -> int:
    """Takes so many bytes."""
    return int(np.ones(size, np.uint8).sum())


def say_and_die(text: str) -> None:
    os.write(2, text.encode())
    os.kill(os.getpid(), signal.SIGABRT)


def test_one_process_answers_many_calls_within_limits() -> None:
    child = Child("LiteRT")
    assert child.call(os.path.basename, "a/b") == "b"
    if sys.platform == "linux":
        with pytest.raises(InterpreterError, match="Unable to allocate"):
            child.call(fill, 1 << 30, limits=Limits(memory=1 << 28))
    assert child.call(fill, 1 << 28) == 1 << 28
    start = time.monotonic()
    with pytest.raises(EndedError, match=r"was ended after 0\.2 s"):
        child.call(time.sleep, 60, limits=Limits(seconds=0.2))
    assert time.monotonic() - start < 30
    with pytest.raises(EndedError, match="its process was ended"):
        child.call(os.getpid)


def test_last_words_are_in_the_error() -> None:
    with pytest.raises(EndedError, match=r"load the model: kernel\.cc: no; its process ended with signal SIGABRT"):
        Child("LiteRT").call(say_and_die, "kernel.cc: no\n", doing="load")


def test_a_host_starts_again_and_its_runners_load_again() -> None:
    q = Quantization.per_tensor(1.0, 0)
    tensors = tuple(Tensor(name, (2,), "int8", quantization=q) for name in "xy")
    host = Host("a host")
    runner = host.runner("reference", Graph(tensors, (Op("RELU", (0,), (1,)),), (0,), (1,)))
    inputs = {0: np.array([-3, 4], np.int8)}
    assert runner.run(inputs)[1].tolist() == [0, 4]
    before = host.alive()
    before.process.kill()
    with pytest.raises(EndedError):
        runner.run(inputs)
    assert runner.run(inputs)[1].tolist() == [0, 4]
    assert host.alive() is not before
    # Where the process had met other graphs, which may have damaged it, a new one tells.
    other = host.runner("reference", Graph(tensors, (Op("RELU", (0,), (1,)),), (0,), (1,)))
    host.alive().process.kill()
    assert other.run(inputs)[1].tolist() == [0, 4]
    host.alive().process.kill()
    with pytest.raises(EndedError):
        other.run(inputs)
    host.alive().end()


def refuse() -> None:
    raise UnsupportedError("ADD #1 -> 'y'", "tflm", "it has no kernel", "Leave it out.")


def test_errors_of_edgeqwt_arrive_as_they_were_raised() -> None:
    with pytest.raises(UnsupportedError, match="ADD #1 -> 'y' cannot be integer on target tflm") as caught:
        Child("LiteRT").call(refuse)
    error = caught.value
    assert (error.op, error.target, error.hint, error.exit_code) == ("ADD #1 -> 'y'", "tflm", "Leave it out.", 4)
