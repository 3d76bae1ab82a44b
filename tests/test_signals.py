from __future__ import annotations

import signal
import threading

import pytest

from edgeqwt.signals import held


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    done = []

    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_does_not_raise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_blocks_nest_and_work_in_other_threads() -> None:
    seen = []

    def elsewhere() -> None:
        with held():
            seen.append(1)

    def work() -> None:
        with held(), held():
            signal.raise_signal(signal.SIGINT)
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            seen.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [1, 2]
