"""Runs in litert-torch's environment, as a program: an exported program (.pt2) to float TFLite.

    python -P litert_torch_child.py PROGRAM.pt2 OUT.tflite

It imports nothing of edgeqwt's, which need not be installed there. The program comes from `through_litert_torch`,
which wrote it from a module that the user gave as code.
"""

from __future__ import annotations

import sys
import warnings


def main(program_file: str, tflite_file: str) -> None:
    """Converts one file."""
    warnings.simplefilter("ignore")
    import litert_torch
    import torch

    program = torch.export.load(program_file)
    args, kwargs = program.example_inputs
    litert_torch.convert(program.module(), tuple(args), dict(kwargs)).export(tflite_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
