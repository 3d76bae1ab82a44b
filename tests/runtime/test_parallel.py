from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.runtime.parallel import WINDOW, ordered, taken

WORKERS = pytest.mark.parametrize("count", [1, 2, 5])


def slow_at_random(worker: object, item: int) -> int:
    time.sleep(float(np.random.default_rng(item).uniform(0, 0.004)))
    return item * item


@WORKERS
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(ordered(list(range(count)), slow_at_random, range(50))) == [i * i for i in range(50)]


@WORKERS
def test_nothing_to_do(count: int) -> None:
    assert list(ordered(list(range(count)), slow_at_random, [])) == []


@WORKERS
def test_a_worker_serves_one_call_at_a_time(count: int) -> None:
    busy: set[int] = set()
    shared = []

    def work(worker: int, item: int) -> int:
        if worker in busy:
            shared.append(worker)
        busy.add(worker)
        time.sleep(0.001)
        busy.discard(worker)
        return worker

    used = list(ordered(list(range(count)), work, range(60)))
    assert shared == []
    assert set(used) == set(range(count))


@WORKERS
def test_items_are_read_only_a_little_ahead(count: int) -> None:
    read = []

    def items() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    for k, _ in enumerate(ordered(list(range(count)), slow_at_random, items())):
        assert len(read) <= k + WINDOW * count
        if k == 20:
            break
    assert len(read) <= 20 + WINDOW * count


def threads() -> set[str]:
    return {t.name for t in threading.enumerate()}


class BrokenError(Exception):
    pass


@WORKERS
def test_what_a_worker_raises_is_raised(count: int) -> None:
    before, done = threads(), []

    def work(worker: int, item: int) -> int:
        done.append(item)
        if item == 10:
            raise BrokenError
        time.sleep(0.2 if item > 10 else 0)
        return item

    results = ordered(list(range(count)), work, range(10_000))
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(BrokenError):
        next(results)
    # What waited is not begun any more; each other worker was at its first or second slow item.
    assert len(done) <= 11 + 2 * (count - 1) + 1
    assert threads() == before


@WORKERS
def test_what_the_items_raise_is_raised(count: int) -> None:
    before = threads()

    def items() -> Iterator[int]:
        yield from range(30)
        raise BrokenError

    with pytest.raises(BrokenError):
        list(ordered(list(range(count)), slow_at_random, items()))
    assert threads() == before


@WORKERS
def test_leaving_early_ends_the_threads(count: int) -> None:
    before = threads()
    results = ordered(list(range(count)), slow_at_random, range(1000))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert threads() == before


@WORKERS
def test_results_are_taken_in_order_one_at_a_time_before_their_worker_goes_on(count: int) -> None:
    held: dict[int, int] = {}  # what each worker's memory has
    found, taking = [], []

    def run(worker: int, item: int) -> tuple[int, int]:
        held[worker] = slow_at_random(worker, item)
        return worker, item

    def take(result: tuple[int, int]) -> None:
        worker, item = result
        taking.append(item)
        time.sleep(0.001)
        found.append((item, held[worker]))
        assert taking == [item]
        taking.remove(item)

    taken([*range(count)], run, take, range(40))
    assert found == [(item, item * item) for item in range(40)]
    taken([*range(count)], run, take, ())
    assert len(found) == 40


@WORKERS
@pytest.mark.parametrize("broken", ["run", "take", "items"])
def test_what_fails_is_raised_and_nothing_after_it_is_taken(count: int, broken: str) -> None:
    before, found = threads(), []

    def fail(where: str, item: int) -> int:
        if where == broken and item == 10:
            raise BrokenError
        return item

    def items() -> Iterator[int]:
        for item in range(1000):
            yield fail("items", item)

    with pytest.raises(BrokenError):
        taken(
            [*range(count)], lambda _, item: fail("run", item), lambda item: found.append(fail("take", item)), items()
        )
    # Where items fail, those that wait are given up.
    assert found == [*range(len(found) if broken == "items" else 10)]
    assert threads() == before


@pytest.mark.parametrize("count", [1, 3])
def test_control_c_ends_the_process_soon(count: int) -> None:
    program = f"""
        import os, time
        from edgeqwt.runtime.parallel import ordered
        def work(worker, item):
            os.write(1, b"working\\n")  # print would write the line and its end apart
            time.sleep(0.2)
        try:
            for _ in ordered(list(range({count})), work, iter(int, 1)):
                pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        # The calls that run take 0.2 s to end; the rest is for a busy machine.
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    lines = rest.splitlines()
    assert lines[-1] == "interrupted"
    assert len(lines) <= 2 * count + 1
