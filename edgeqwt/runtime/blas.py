"""One thread per matrix product: threads are ours to start, one per core, each with work of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager


def one_thread() -> AbstractContextManager[object]:
    """While it lasts, numpy's products and factorizations run on the calling thread alone.

    BLAS splits even small products over all cores and lets its threads wait for each other in a busy
    loop, which on a shared machine takes many times longer; and the way in which it splits them shows in
    the last bits of the result. The setting is the process's; it is put back at the end.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits
