"""Observing a float graph in shards of its samples, each by a process of its own, here or on a Ray cluster.

Statistics are counts and extremes, and merge exactly in any order: what comes of shards is what one process observes.
Machines of a cluster have to be of one kind: kernels for other processors may round a value into the next bin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import batched, count
from typing import Any

from edgeqwt.calibration.deciding import Within
from edgeqwt.calibration.observe import observe_some, require_deciding
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.child import Child
from edgeqwt.runtime.cluster import connected
from edgeqwt.runtime.parallel import THREADS, ordered

LOCAL = "local"
"""In place of a cluster's address: processes of this machine."""

Shard = tuple[Mapping[int, Array], ...]
Observer = Callable[[Shard, int], dict[int, Statistics]]
"""Observes consecutive samples, from the number of the first of them."""


def observe_in_shards(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    size: int,
    shards: int,
    deciding: Mapping[int, Within],
    on: str = LOCAL,
) -> dict[int, Statistics]:
    """What `observe` returns of a graph and samples.

    Args:
        graph: a float graph.
        samples: graph inputs by tensor index; read once; up to `parallel.WINDOW` shards are held for each worker.
        size: how many samples there are.
        shards: how many parts they become.
        deciding: what of outputs decides, by their position.
        on: LOCAL, the address of a Ray cluster, or `cluster.START`.

    Raises:
        InputError: as `observe`; there is no such number of shards.
        ToolError: there is no cluster, or it lost a shard.
    """
    if not 0 < shards <= size:
        raise InputError(f"{size} samples cannot be observed in {shards} shards", f"Take 1 to {size}.")
    parts = zip(batched(samples, math.ceil(size / shards)), count(0, math.ceil(size / shards)))
    total: dict[int, Statistics] = {}
    with _workers(graph, dict(deciding), shards, on) as workers:
        for found in ordered(workers, lambda observer, part: observer(*part), parts):
            for t, statistics in found.items():
                total.setdefault(t, Statistics()).merge(statistics)
    require_deciding(graph, total, deciding, size)
    return total


@contextmanager
def _workers(graph: Graph, deciding: dict[int, Within], shards: int, on: str) -> Iterator[list[Observer]]:
    """One for each core that there is, as long as there are shards."""
    if on != LOCAL:
        with connected(on, THREADS):
            import ray

            cores = int(ray.cluster_resources().get("CPU", 1))
            yield [_on_ray(graph, deciding)] * min(shards, cores)
        return
    most = min(shards, THREADS)
    children = [Child("observing a shard") for _ in range(most)]
    try:
        yield [_in(child, graph, deciding, max(1, THREADS // most)) for child in children]
    finally:
        for child in children:
            child.end()


def _in(child: Child, graph: Graph, deciding: dict[int, Within], threads: int) -> Observer:
    def observer(shard: Shard, first: int) -> dict[int, Statistics]:
        found: dict[int, Statistics] = child.call(_observed, graph, shard, first, deciding, threads)
        return found

    return observer


def _on_ray(graph: Graph, deciding: dict[int, Within]) -> Observer:
    import ray

    task, stored = ray.remote(_observed), ray.put(graph)  # the graph is put there once

    def observer(shard: Shard, first: int) -> dict[int, Statistics]:
        try:
            found: dict[int, Statistics] = ray.get(task.remote(stored, shard, first, deciding, 1))
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from None
        except ray.exceptions.RayError as error:
            raise _lost(str(error)) from None
        return found

    return observer


def _own(error: Any) -> Exception:
    """What a task raised."""
    return error.cause if isinstance(error.cause, InputError) else _lost(str(error.cause))


def _lost(said: str) -> ToolError:
    failed = ToolError("ray", None, "", "Observe again, or in shards of this machine.")
    failed.message = f"the cluster lost a shard: {said.splitlines()[0] if said else 'it does not say why'}"
    return failed


def _observed(
    graph: Graph, shard: Shard, first: int, deciding: dict[int, Within], threads: int
) -> dict[int, Statistics]:
    """On the worker: statistics of a shard."""
    return observe_some(graph, shard, first, threads, deciding)[0]
