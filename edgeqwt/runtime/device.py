"""Where torch computes gradients: on the processor, or on a CUDA device.

The setting is the process's, like torch's threads. What a technique draws at random is drawn on the processor, so that
devices differ by the rounding of their sums alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from edgeqwt.errors import InputError
from edgeqwt.runtime.parallel import THREADS

CPU, CUDA, AUTO = "cpu", "cuda", "auto"
DEVICES = (AUTO, CPU, CUDA)
MOST = 2  # threads for gradients: each needs memory for a batch of samples

_now = CPU


def device_now() -> str:
    """Where new tensors go."""
    return _now


def gradient_threads() -> list[None]:
    """Workers for `parallel.ordered`: torch computes on so many threads, each with samples of its own."""
    return [None] * (min(MOST, THREADS) if _now == CPU else 1)


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """While it lasts, gradients are computed there.

    Args:
        name: a torch device.
    """
    global _now
    before, _now = _now, name
    try:
        if name == CPU:
            yield
        else:
            with _as_float32():
                yield
    finally:
        _now = before


@contextmanager
def _as_float32() -> Iterator[None]:
    """Convolutions and products in float32 on CUDA, not in its shorter TF32, which convolutions have by default."""
    import torch

    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def chosen_device(name: str) -> str:
    """The torch device of a user's choice: CPU, CUDA, or the better one that is there.

    Raises:
        InputError: there is no such choice, or no CUDA device that torch can use.
    """
    if name not in DEVICES:
        raise InputError(f"there is no device {name!r} to compute on", f"Take one of {', '.join(DEVICES)}.")
    if name == CPU:
        return CPU
    if _has_cuda():
        return CUDA
    if name == CUDA:
        what = "torch finds no CUDA device" if find_spec("torch") is not None else "CUDA needs torch, which is missing"
        raise InputError(what, "Take --device cpu; or install torch with CUDA and a driver that nvidia-smi lists.")
    return CPU


def _has_cuda() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
