"""Sources: PyTorch, ONNX and TFLite models to float TFLite graphs.

Installed as `edgeqwt.converters`. Only the command line and the build's entry point reach it.
"""

from __future__ import annotations

from edgeqwt.converters.convert import convert

__all__ = ["convert"]
