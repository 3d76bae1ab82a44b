from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime.parallel import ordered
from edgeqwt.runtime.runners import InterpreterError, TFLiteMicro
from edgeqwt.runtime.subprocess_runners import Host, Hosted


def alone(kind: str, graph: Graph, taps: Sequence[int] = ()) -> Hosted:
    """A runner in a process of its own."""
    return Host(f"the {kind} interpreter").runner(kind, graph, taps)


def one_op(kind: str, count: int = 1, **op: object) -> Graph:
    q = Quantization.per_tensor(1.0, 0)
    tensors = tuple(Tensor(name, (2, 3), "int8", quantization=q) for name in (*"abc"[:count], "y"))
    return Graph(tensors, (Op(kind, tuple(range(count)), (count,), **op),), tuple(range(count)), (count,))  # type: ignore[arg-type]


def filled(*values: int) -> dict[int, np.ndarray]:
    return {t: np.full((2, 3), value, np.int8) for t, value in enumerate(values)}


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_several_processes_compute_what_one_interpreter_computes(mlperf_tiny: Path) -> None:
    graph = flatbuffer.read(mlperf_tiny / "keyword_spotting_int8.tflite")
    taps = [t for op in graph.ops for t in op.outputs]
    rng = np.random.default_rng(0)
    shape = graph.tensors[graph.inputs[0]].shape
    samples = [{graph.inputs[0]: rng.integers(-128, 128, shape).astype(np.int8)} for _ in range(12)]
    here = TFLiteMicro(graph, taps)
    runners = [alone("tflm", graph, taps) for _ in range(2)]
    for sample, found in zip(samples, ordered(runners, lambda r, s: r.run(s), samples), strict=True):
        expected = here.run(sample)
        assert found.keys() == expected.keys()
        assert all(found[t].tobytes() == expected[t].tobytes() for t in expected)


def test_a_process_ends_with_its_runner() -> None:
    before = children()
    runners = [alone("reference", one_op("RELU")) for _ in range(2)]
    assert len(children() - before) == 2
    runners[0].run(filled(3))
    del runners
    gc.collect()
    assert not children() - before  # those of earlier tests may end meanwhile


def test_a_refused_model_is_an_error_with_the_interpreters_words() -> None:
    before = children()
    with pytest.raises(InterpreterError, match=r"TFLite Micro cannot load the model: Didn't find op .*GELU") as caught:
        alone("tflm", one_op("GELU"))
    assert "GELU" in caught.value.log_tail
    del caught
    gc.collect()
    assert not children() - before  # those of earlier tests may end meanwhile


def test_a_failed_run_is_an_error_and_the_runner_lives_on() -> None:
    runner = alone("reference", one_op("DIV", 2, version=2))
    with pytest.raises(InterpreterError, match=r"cannot run the model: .*div\.cc"):
        runner.run(filled(6, 0))
    assert (runner.run(filled(6, 2))[2] == 3).all()


def test_wrong_inputs_are_our_bug() -> None:
    runner = alone("reference", one_op("RELU"))
    with pytest.raises(InvariantError, match="input 'a' takes int8"):
        runner.run({0: np.zeros((2, 3), np.float32)})
    assert (runner.run(filled(5))[1] == 5).all()


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_a_process_that_dies_is_an_error(number: signal.Signals) -> None:
    before = children()
    runner = alone("reference", one_op("RELU"))
    (process,) = children() - before
    os.kill(process, number)
    with pytest.raises(InterpreterError, match=f"its process ended with signal {number.name}"):
        runner.run(filled(5))
    assert process not in children()
    assert (runner.run(filled(5))[1] == 5).all()  # in a new one


def test_an_interrupt_is_left_to_the_process_that_started_it() -> None:
    """Which may have work to finish: Control-C reaches all processes of a terminal."""
    before = children()
    runner = alone("reference", one_op("RELU"))
    (process,) = children() - before
    os.kill(process, signal.SIGINT)
    assert (runner.run(filled(5))[1] == 5).all()


def test_control_c_leaves_no_process() -> None:
    """Both processes get the signal, as they do from a terminal."""
    program = """
        import numpy as np, os
        from edgeqwt.graph.graph import Graph, Op, Tensor
        from edgeqwt.runtime.subprocess_runners import Host
        x, y = (Tensor(name, (2,), "float32") for name in "xy")
        graph = Graph((x, y), (Op("RELU", (0,), (1,)),), (0,), (1,))
        runner = Host("a host").runner("reference", graph)
        print(runner.loaded.process.pid, flush=True)
        try:
            while True:
                runner.run({0: np.ones(2, np.float32)})
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_copy_of_a_process_has_interpreters_of_its_own() -> None:
    """As multiprocessing's workers are: had both the same one, each would read the other's answers."""
    runner = Host("a host").runner("reference", one_op("ABS"))
    child = runner.loaded
    assert child is not None
    copy = os.fork()
    if copy == 0:
        try:
            right = all((runner.run(filled(-n))[1] == n).all() for n in range(50))
            os._exit(0 if right and runner.loaded is not child else 1)
        finally:
            os._exit(2)
    assert all((runner.run(filled(-n))[1] == n).all() for n in range(50, 100))
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert runner.loaded is child
    assert (runner.run(filled(-1))[1] == 1).all()  # the copy's end has not ended it


def test_a_process_ends_when_the_one_that_started_it_is_killed() -> None:
    program = """
        import time
        from edgeqwt.graph.graph import Graph, Op, Tensor
        from edgeqwt.runtime.subprocess_runners import Host
        x, y = (Tensor(name, (2,), "float32") for name in "xy")
        graph = Graph((x, y), (Op("RELU", (0,), (1,)),), (0,), (1,))
        runner = Host("a host").runner("reference", graph)
        print(runner.loaded.process.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(child)


def running(pid: int) -> bool:
    """Whether a process is there and has not ended (nobody may have asked for its exit status yet)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
