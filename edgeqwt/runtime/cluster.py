"""A Ray cluster: the one that the user names or has, or one on this machine for as long as it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeqwt.errors import ToolError
from edgeqwt.extras import need

START = "ray"
"""In place of an address: the cluster that $RAY_ADDRESS names, or one that is started here and ends with its use."""

ADDRESS = "Give the address that `ray start --head` prints, or ray."
PATHS = "Ray's sockets need a short path: name a folder in the environment variable RAY_TMPDIR, such as ~/ray."


@contextmanager
def connected(address: str, cores: int) -> Iterator[None]:
    """While the block runs, this process is a driver of the cluster; one that was started for it ends with it.

    Args:
        address: of the cluster, or START.
        cores: of a cluster that is started here.

    Raises:
        MissingPackageError: Ray is not installed.
        ToolError: there is no cluster.
    """
    need("ray")
    import ray

    if ray.is_initialized():  # a program of the user's has its own connection
        yield
        return
    starting = address == START and not os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False}
    try:
        named = None if address == START else address
        ray.init(named, log_to_driver=False, logging_level="error", **(own if starting else {}))
    except (OSError, ValueError, RuntimeError) as error:
        failed = ToolError("ray", None, "", PATHS if starting else ADDRESS)
        failed.message = f"no Ray cluster starts here: {error}" if starting else f"no Ray cluster at {address}: {error}"
        raise failed from None
    try:
        yield
    finally:
        ray.shutdown()
