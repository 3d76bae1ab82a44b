"""Packed sequences of torch (`pack_padded_sequence`), whose lengths its ONNX exporter loses, as padded ones and masks.

A packed batch stays padded while a module is traced; its lengths travel with what torch keeps of a batch's sizes. A
recurrent layer's steps leave the state of a sequence that has ended as it is, and give zero there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.errors import InputError

LENGTHS = "edgeqwt_lengths"
"""The attribute of a packed sequence's `batch_sizes` that holds the lengths, (B,)."""
Cell = Callable[[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]
"""What the input and the state give the gates, and the states before; gives the states after, the output first."""


def packed_forms() -> Mapping[Any, Callable[..., Any]]:
    """By function; see `forms.Form`."""
    functions = torch._VF
    return {
        functions._pack_padded_sequence: _pack,
        functions._pad_packed_sequence: _pad,
        functions.gru: lambda x, *given: _layers(x, *given, cell=_gru),
        functions.rnn_tanh: lambda x, *given: _layers(x, *given, cell=lambda a, b, _: ((a + b).tanh(),)),
        functions.rnn_relu: lambda x, *given: _layers(x, *given, cell=lambda a, b, _: ((a + b).relu(),)),
    }


def packed_lstm(x: torch.Tensor, *given: Any) -> Any:
    """torch.lstm's arguments for packed sequences; see `forms.Form`."""
    return _layers(x, *given, cell=_lstm)


def _pack(x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    steps = (x.transpose(0, 1) if batch_first else x).contiguous()
    sizes = torch.tensor([int(steps.shape[1])])  # its first element is all that a layer asks for
    setattr(sizes, LENGTHS, lengths)
    return steps.flatten(0, 1), sizes  # layers check that it has two axes


def _steps(x: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """What was packed as (T, B, width)."""
    batch = int(sizes[0])
    return x.reshape(int(x.shape[0]) // batch, batch, int(x.shape[1]))


def _pad(x: torch.Tensor, sizes: torch.Tensor, batch_first: bool, value: float, total: int) -> Any:
    lengths = getattr(sizes, LENGTHS, None)
    if lengths is None:
        return NotImplemented
    x = _steps(x, sizes)
    if int(lengths.max()) < int(x.shape[0]) and total < int(x.shape[0]):
        raise InputError(
            "pad_packed_sequence gives as many steps as the longest sequence of a sample has, and a file's shapes are "
            "fixed",
            "Give it total_length=x.shape[1] (x.shape[0] where the batch is not first), the length before packing.",
        )
    places = torch.arange(int(x.shape[0])).reshape(-1, 1, 1)
    filled = torch.where(places < lengths.reshape(1, -1, 1), x, torch.full_like(x[:1, :1, :1], value))
    return (filled.transpose(0, 1) if batch_first else filled), lengths


def _layers(x: torch.Tensor, sizes: Any, states: Any = None, weights: Any = None, *options: Any, cell: Cell) -> Any:
    """The layers of a recurrent module on a packed batch: outputs (T * B, directions * hidden), and the last states."""
    lengths = getattr(sizes, LENGTHS, None)
    if lengths is None:
        return NotImplemented
    x, (has_biases, num_layers, _, _, bidirectional) = _steps(x, sizes), options
    directions, several = 2 if bidirectional else 1, isinstance(states, tuple)
    each = len(weights) // (num_layers * directions)
    ongoing = [(lengths > t).reshape(-1, 1) for t in range(int(x.shape[0]))]
    last = list[tuple[torch.Tensor, ...]]()
    for layer in range(num_layers):
        found = []
        for way in range(directions):
            k = layer * directions + way
            start = tuple(state[k] for state in states) if several else (states[k],)
            given = weights[k * each : (k + 1) * each]
            outputs, end = _run(x, ongoing, start, given, has_biases, cell, backward=way == 1)
            found.append(outputs)
            last.append(end)
        x = found[0] if directions == 1 else torch.cat(found, -1)
    return x.flatten(0, 1), *(torch.stack(parts) for parts in zip(*last, strict=True))


def _run(
    x: torch.Tensor, ongoing: Sequence[torch.Tensor], states: tuple[torch.Tensor, ...], weights: Sequence[torch.Tensor],
    has_biases: bool, cell: Cell, backward: bool,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:  # fmt: skip
    """One layer in one direction: its outputs, zero behind a sequence's end, and its last states."""
    of_input, of_state, *more = weights
    biases, projection = (more[:2], more[2:]) if has_biases else ((None, None), more)
    products, outputs = F.linear(x, of_input, biases[0]), dict[int, torch.Tensor]()
    for t in range(len(ongoing))[:: -1 if backward else 1]:
        hidden, *others = cell(products[t], F.linear(states[0], of_state, biases[1]), states)
        after = (F.linear(hidden, projection[0]) if projection else hidden, *others)
        outputs[t] = torch.where(ongoing[t], after[0], torch.zeros_like(after[0]))
        states = tuple(torch.where(ongoing[t], new, old) for new, old in zip(after, states, strict=True))
    return torch.stack([outputs[t] for t in range(len(ongoing))]), states


def _lstm(x: torch.Tensor, h: torch.Tensor, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    i, f, g, o = (x + h).chunk(4, -1)
    c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: torch.Tensor, h: torch.Tensor, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    z, n = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * hn).tanh()
    return ((1 - z) * n + z * states[0],)
