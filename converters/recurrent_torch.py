"""Recurrent layers of torch models that torch.onnx.export does not write, or writes wrong, named before it tries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.rnn import RNNBase
from torch.nn.utils.rnn import PackedSequence

from edgeqwt.errors import UnsupportedError


@contextmanager
def plain_sequences(what: str, module: torch.nn.Module) -> Iterator[None]:
    """Watches a module's recurrent layers while it runs.

    Args:
        what: how the user named the module.
        module: that is run inside.

    Raises:
        UnsupportedError: a layer gets sequences of several lengths, packed.
    """

    def refuse(layer: RNNBase, why: str, hint: str) -> UnsupportedError:
        name = next((name for name, found in module.named_modules() if found is layer), "")
        return UnsupportedError(f"{what}: {type(layer).__name__} {name!r}", "tflite", why, hint)

    def look(layer: RNNBase, arguments: tuple[Any, ...]) -> None:
        if any(isinstance(argument, PackedSequence) for argument in arguments):
            hint = "Give it padded sequences of one length, and pick what lies before the padding afterwards."
            raise refuse(layer, "it gets sequences of several lengths, packed (pack_padded_sequence)", hint)

    layers = [layer for layer in module.modules() if isinstance(layer, RNNBase)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
