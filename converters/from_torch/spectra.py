"""Discrete Fourier transforms of torch as products with matrices of cosines and sines.

Exporters write them as custom ops. While a module is traced, torch.fft's functions give complex values as pairs of real
ones (`complex`). What is not here ends the trace, as it did before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.converters.from_torch.complex import Complex, parts
from edgeqwt.graph.graph import Array
from edgeqwt.prepare.spectra import turns

LONGEST = 4096  # of a transform: its matrices are stored
LEAST_WINDOW = 1e-11  # of windows' squares added up, by which torch.istft divides


@cache
def spectral_forms() -> Mapping[Any, Callable[..., Any]]:
    """What stands for torch's functions, by function; see `forms.forms`."""
    fft = torch.fft
    return {
        fft.fft: lambda x, n=None, dim=-1, norm=None: _whole(x, n, dim, norm, "fft"),
        fft.ifft: lambda x, n=None, dim=-1, norm=None: _whole(x, n, dim, norm, "ifft"),
        fft.rfft: lambda x, n=None, dim=-1, norm=None: _whole(x, n, dim, norm, "rfft"),
        fft.irfft: lambda x, n=None, dim=-1, norm=None: _whole(x, n, dim, norm, "irfft"),
        fft.fft2: lambda x, s=None, dim=(-2, -1), norm=None: _whole(x, s, dim, norm, "fft"),
        fft.ifft2: lambda x, s=None, dim=(-2, -1), norm=None: _whole(x, s, dim, norm, "ifft"),
        fft.rfft2: lambda x, s=None, dim=(-2, -1), norm=None: _whole(x, s, dim, norm, "rfft"),
        fft.irfft2: lambda x, s=None, dim=(-2, -1), norm=None: _whole(x, s, dim, norm, "irfft"),
        fft.fftn: lambda x, s=None, dim=None, norm=None: _whole(x, s, dim, norm, "fft"),
        fft.ifftn: lambda x, s=None, dim=None, norm=None: _whole(x, s, dim, norm, "ifft"),
        fft.rfftn: lambda x, s=None, dim=None, norm=None: _whole(x, s, dim, norm, "rfft"),
        fft.irfftn: lambda x, s=None, dim=None, norm=None: _whole(x, s, dim, norm, "irfft"),
        fft.fftshift: lambda x, dim=None: _shifted(x, dim, 1),
        fft.ifftshift: lambda x, dim=None: _shifted(x, dim, -1),
        torch.stft: _framed,
        torch.Tensor.stft: _framed,
        torch.istft: _joined,
        torch.Tensor.istft: _joined,
    }


def _whole(x: Any, sizes: Any, dim: Any, norm: str | None, kind: str) -> Any:
    """A transform along one or several axes."""
    single = isinstance(sizes, int | torch.Tensor)  # a traced size is a tensor
    given = None if sizes is None else [int(n) for n in ([sizes] if single else sizes)]
    axes = [dim] if isinstance(dim, int) else list(range(x.ndim)) if dim is None else list(dim)
    if given is not None and dim is None:
        axes = axes[-len(given) :]
    lengths: Sequence[int | None] = [None] * len(axes) if given is None else given
    if isinstance(x, torch.Tensor) and x.is_complex():
        return NotImplemented
    pairs = [(axis % x.ndim, None if n in (None, -1) else n) for axis, n in zip(axes, lengths, strict=True)]
    if any((n or int(x.shape[axis])) > LONGEST for axis, n in pairs):
        return NotImplemented
    if kind == "rfft":  # the last axis is the real one
        x = _along(x, *pairs[-1], norm, inverse=False, half=True)
        pairs = pairs[:-1]
    for axis, n in pairs[:-1] if kind == "irfft" else pairs:
        x = _along(x, axis, n, norm, inverse=kind in ("ifft", "irfft"))
    return _real_along(x, *pairs[-1], norm) if kind == "irfft" else x


def _framed(x: torch.Tensor, *args: Any, return_complex: Any = None, **more: Any) -> Any:
    """The exporter writes spectra of frames as pairs of real values, and no complex ones."""
    if not return_complex or x.is_complex():
        return NotImplemented
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of pairs
        pairs: torch.Tensor = torch.stft(x, *args, **{**more, "return_complex": False})
    return Complex(pairs[..., 0], pairs[..., 1])


def _joined(
    x: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """The signal whose frames have these spectra, (batch, bins, frames): frames add up as a transposed convolution's.

    What a frame has in a sample is the sum over bins of real cos - imag sin, weighted by its window; what the windows'
    squares add up to is divided by.
    """
    real, imag = parts(x)
    if imag is None or onesided is False or return_complex or (n_fft // 2 + 1) != real.shape[-2]:
        return NotImplemented
    hop, size, frames = hop_length or n_fft // 4, win_length or n_fft, int(real.shape[-1])
    shape = np.ones(size) if window is None else window.detach().numpy().astype(np.float64)
    before = (n_fft - size) // 2
    shape = np.pad(shape, (before, n_fft - size - before))
    twice = np.where((np.arange(n_fft // 2 + 1) == 0) | (2 * np.arange(n_fft // 2 + 1) == n_fft), 1, 2)[:, None]
    angles = turns(n_fft, n_fft // 2 + 1, n_fft).T
    waves = np.concatenate([twice * np.cos(angles), -twice * np.sin(angles)]) * shape / n_fft
    waves = waves * (np.sqrt(n_fft) if normalized else 1)
    total = np.zeros(n_fft + hop * (frames - 1))
    for k in range(frames):
        total[k * hop : k * hop + n_fft] += shape**2
    first = n_fft // 2 if center else 0
    last = first + length if length else len(total) - first
    if last > len(total) or total[first:last].min() < LEAST_WINDOW:
        return NotImplemented
    given = torch.cat([real, imag], -2)
    kernel = torch.tensor(waves[:, None].astype(np.float32))
    found = F.conv_transpose1d(given.reshape(-1, *given.shape[-2:]), kernel, stride=hop)[..., first:last]
    return (found * torch.tensor((1 / total[first:last]).astype(np.float32))).reshape(*given.shape[:-2], last - first)


def _shifted(x: Any, dim: Any, way: int) -> Any:
    """Frequency 0 in the middle of some axes, or back at their start."""
    axes = list(range(x.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return x.roll([way * (int(x.shape[axis]) // 2) for axis in axes], axes)


def _factor(n: int, norm: str | None, inverse: bool) -> float:
    """What torch's norms multiply a transform with."""
    if norm == "ortho":
        return 1 / sqrt(n)
    return 1 / n if inverse == (norm in (None, "backward")) else 1.0


def _along(x: Any, axis: int, n: int | None, norm: str | None, inverse: bool, half: bool = False) -> Complex:
    """sum over j of x_j exp(-+ 2 pi i j k / n), for all k or the first n // 2 + 1."""
    n = int(x.shape[axis]) if n is None else n
    angles = turns(n, n // 2 + 1 if half else n, n)
    factor = _factor(n, norm, inverse)
    cosines, sines = np.cos(angles) * factor, np.sin(angles) * (factor if inverse else -factor)
    real, imag = parts(x)
    real = _fitted(real, axis, n)
    if imag is None:
        return Complex(_product(real, axis, cosines), _product(real, axis, sines))
    imag = _fitted(imag, axis, n)
    return Complex(
        _product(real, axis, cosines) - _product(imag, axis, sines),
        _product(real, axis, sines) + _product(imag, axis, cosines),
    )


def _real_along(x: Any, axis: int, n: int | None, norm: str | None) -> torch.Tensor:
    """The real values whose first n // 2 + 1 bins these are; the others are their conjugates."""
    n = 2 * (int(x.shape[axis]) - 1) if n is None else n
    bins = n // 2 + 1
    twice = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == n), 1, 2) * _factor(n, norm, inverse=True)
    angles = turns(n, bins, n).T
    real, imag = parts(x)
    found = _product(_fitted(real, axis, bins), axis, twice[:, None] * np.cos(angles))
    if imag is None:
        return found
    return found - _product(_fitted(imag, axis, bins), axis, twice[:, None] * np.sin(angles))


def _fitted(x: torch.Tensor, axis: int, n: int) -> torch.Tensor:
    """The first n values along an axis, zeros behind where there are fewer."""
    size = int(x.shape[axis])
    if size >= n:
        return x if size == n else x.narrow(axis, 0, n)
    return F.pad(x, (0, 0) * (x.ndim - 1 - axis) + (0, n - size))


def _product(x: torch.Tensor, axis: int, matrix: Array) -> torch.Tensor:
    """An axis times a matrix."""
    held = torch.tensor(matrix.astype(np.float32))
    return (x.movedim(axis, x.ndim - 1) @ held).movedim(x.ndim - 1, axis)
