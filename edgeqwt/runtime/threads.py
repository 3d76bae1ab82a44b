"""How many threads libraries use: threads are ours to start, one per core, each with work of its own.

Settings are the process's; they are put back at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


def one_thread() -> AbstractContextManager[object]:
    """While it lasts, numpy's products and factorizations run on the calling thread alone.

    BLAS splits even small products over all cores and lets its threads wait for each other in a busy
    loop, which on a shared machine takes many times longer; and the way in which it splits them shows in
    the last bits of the result.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


@contextmanager
def torch_threads(count: int, at_most: bool = False) -> Iterator[None]:
    """While it lasts, torch has so many threads: sums are made in the same order whatever the machine has.

    Args:
        count: how many.
        at_most: fewer where torch has fewer already.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count) if at_most else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
