"""Discrete Fourier transforms of torch as products with matrices of cosines and sines, and their complex results.

TFLite has no complex numbers that integers could stand for, and exporters write custom ops. While a module is traced,
torch.fft's functions give a `Spectrum`: a pair of real tensors with the methods that follow a transform. What is not
here ends the trace, as it did before.
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

from edgeqwt.graph.graph import Array
from edgeqwt.prepare.spectra import turns

MOVES = frozenset(
    {
        "reshape", "view", "permute", "transpose", "movedim", "swapaxes", "flatten", "unflatten", "unsqueeze",
        "squeeze", "contiguous", "clone", "narrow", "expand", "sum", "mean", "roll", "flip", "chunk", "split",
        "float",
    }
)  # fmt: skip
"""Methods that do the same to real and imaginary parts."""
LONGEST = 4096  # of a transform: its matrices are stored
LEAST_WINDOW = 1e-11  # of windows' squares added up, by which torch.istft divides


class Spectrum:
    """A complex tensor as two real ones of equal shape.

    Args:
        real: its real part.
        imag: its imaginary part.
    """

    def __init__(self, real: torch.Tensor, imag: torch.Tensor) -> None:
        self.real = real
        self.imag = imag

    @property
    def shape(self) -> torch.Size:
        """Of either part."""
        return self.real.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.real.ndim

    def __getattr__(self, name: str) -> Any:
        if name not in MOVES:
            raise AttributeError(f"complex values have no {name!r} while a module is traced")
        return lambda *args, **more: self._each(lambda part: getattr(part, name)(*args, **more))

    def __getitem__(self, index: Any) -> Any:
        return self._each(lambda part: part[index])

    def _each(self, function: Callable[[torch.Tensor], Any]) -> Any:
        real, imag = function(self.real), function(self.imag)
        if isinstance(real, tuple | list):
            return tuple(Spectrum(r, i) for r, i in zip(real, imag, strict=True))
        return Spectrum(real, imag)

    def abs(self) -> torch.Tensor:
        """The magnitude."""
        return (self.real * self.real + self.imag * self.imag).sqrt()

    def angle(self) -> torch.Tensor:
        """The phase, in radians."""
        return torch.atan2(self.imag, self.real)

    def conj(self) -> Spectrum:
        """The complex conjugate."""
        return Spectrum(self.real, -self.imag)

    def __neg__(self) -> Spectrum:
        return Spectrum(-self.real, -self.imag)

    def __add__(self, other: Any) -> Spectrum:
        real, imag = parts(other)
        return Spectrum(self.real + real, self.imag if imag is None else self.imag + imag)

    def __sub__(self, other: Any) -> Spectrum:
        real, imag = parts(other)
        return Spectrum(self.real - real, self.imag if imag is None else self.imag - imag)

    def __mul__(self, other: Any) -> Spectrum:
        real, imag = parts(other)
        if imag is None:
            return Spectrum(self.real * real, self.imag * real)
        return Spectrum(self.real * real - self.imag * imag, self.real * imag + self.imag * real)

    def __truediv__(self, other: Any) -> Any:
        real, imag = parts(other)
        return NotImplemented if imag is not None else Spectrum(self.real / real, self.imag / real)

    __radd__, __rmul__ = __add__, __mul__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Functions of torch that are given one."""
        form = _functions().get(func)
        return NotImplemented if form is None else form(*args, **(kwargs or {}))


def parts(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part; None for the latter where there is none. Complex tensors are taken for constants."""
    if isinstance(value, Spectrum):
        return value.real, value.imag
    if isinstance(value, complex):
        return value.real, value.imag
    if isinstance(value, torch.Tensor) and value.is_complex():
        data = value.detach().resolve_conj().numpy()
        return torch.tensor(data.real.copy()), torch.tensor(data.imag.copy())
    return value, None


@cache
def _functions() -> Mapping[Any, Callable[..., Any]]:
    found: dict[Any, Callable[..., Any]] = {
        torch.abs: Spectrum.abs,
        torch.angle: Spectrum.angle,
        torch.conj: Spectrum.conj,
        torch.real: lambda x: x.real,
        torch.imag: lambda x: x.imag,
        torch.view_as_real: lambda x: torch.stack((x.real, x.imag), -1),
        torch.is_complex: lambda x: True,
        torch.istft: _joined,
    }
    for other in (torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__):
        found[other] = lambda a, b: a * b if isinstance(a, Spectrum) else b * a
    for other in (torch.add, torch.Tensor.add, torch.Tensor.__add__):
        found[other] = lambda a, b: a + b if isinstance(a, Spectrum) else b + a
    return found


@cache
def spectral_forms() -> Mapping[Any, Callable[..., Any]]:
    """What stands for torch's functions, by function; see `torch_forms.forms`."""
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
        torch.complex: lambda real, imag: Spectrum(real, imag),
        torch.stft: _framed,
        torch.Tensor.stft: _framed,
        torch.istft: _joined,
        torch.Tensor.istft: _joined,
        torch.polar: lambda size, angle: Spectrum(size * angle.cos(), size * angle.sin()),
        torch.view_as_complex: lambda x: Spectrum(x[..., 0], x[..., 1]),
    }


def _whole(x: Any, sizes: Any, dim: Any, norm: str | None, kind: str) -> Any:
    """A transform along one or several axes."""
    given = None if sizes is None else [int(n) for n in ([sizes] if isinstance(sizes, int) else sizes)]
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
    return Spectrum(pairs[..., 0], pairs[..., 1])


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


def _along(x: Any, axis: int, n: int | None, norm: str | None, inverse: bool, half: bool = False) -> Spectrum:
    """sum over j of x_j exp(-+ 2 pi i j k / n), for all k or the first n // 2 + 1."""
    n = int(x.shape[axis]) if n is None else n
    angles = turns(n, n // 2 + 1 if half else n, n)
    factor = _factor(n, norm, inverse)
    cosines, sines = np.cos(angles) * factor, np.sin(angles) * (factor if inverse else -factor)
    real, imag = parts(x)
    real = _fitted(real, axis, n)
    if imag is None:
        return Spectrum(_product(real, axis, cosines), _product(real, axis, sines))
    imag = _fitted(imag, axis, n)
    return Spectrum(
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
