"""nn.LSTM with projections, which torch's ONNX exporter writes wrong, as its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)


def projected(
    x: Any,
    states: Any,
    weights: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: Any = None,
) -> Any:
    """torch.lstm's arguments for sequences of one length; see `forms.Form`.

    Sak et al. 2014, "Long short-term memory recurrent neural network architectures", equations 1 to 6 without
    peepholes: the state that is handed on is P (o * tanh(c)).
    """
    directions = 2 if bidirectional else 1
    each = 2 + 2 * has_biases + 1
    if batch_first is None or len(weights) != num_layers * directions * each:  # packed sequences, or no projections
        return NotImplemented
    steps = [row.squeeze(1 if batch_first else 0) for row in x.split(1, 1 if batch_first else 0)]
    last_h, last_c = list[torch.Tensor](), list[torch.Tensor]()
    for layer in range(num_layers):
        found = []
        for way in range(directions):
            k = layer * directions + way
            given = steps if way == 0 else steps[::-1]
            outputs, h, c = _run(given, states[0][k], states[1][k], weights[k * each : (k + 1) * each], has_biases)
            found.append(outputs if way == 0 else outputs[::-1])
            last_h.append(h)
            last_c.append(c)
        steps = found[0] if directions == 1 else [torch.cat(pair, -1) for pair in zip(*found, strict=True)]
    return torch.stack(steps, 1 if batch_first else 0), torch.stack(last_h), torch.stack(last_c)


def _run(
    steps: Sequence[torch.Tensor], h: torch.Tensor, c: torch.Tensor, weights: Sequence[torch.Tensor], has_biases: bool
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """One layer in one direction: its outputs, and its last states."""
    of_input, of_state, *biases, projection = weights
    bias = biases[0] + biases[1] if has_biases else None
    outputs = []
    for x in steps:
        i, f, g, o = (F.linear(x, of_input, bias) + F.linear(h, of_state)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = F.linear(o.sigmoid() * c.tanh(), projection)
        outputs.append(h)
    return outputs, h, c
