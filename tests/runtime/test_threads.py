from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from edgeqwt.runtime.threads import one_thread


def threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_one_thread_while_it_lasts() -> None:
    np.eye(2) @ np.eye(2)
    before = threads()
    with one_thread():
        assert set(threads()) <= {1}
    assert threads() == before
