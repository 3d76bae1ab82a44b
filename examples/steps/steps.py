"""A build, technique by technique: python examples/steps/steps.py MODEL SAMPLES OUTPUT.tflite."""

from __future__ import annotations

import sys

import edgeqwt


def main(model: str, samples: str, output: str) -> None:
    """Applies each technique of `balanced`, prints what it did and what held-out samples say, and writes the file."""
    job = edgeqwt.open_job(model, calibration=samples, recipe="balanced")
    state = job.start()
    for technique in job.techniques:
        before = state
        state, account = job.apply(technique, state)
        gain = job.gain_db(before, state) if account.kept else 0.0
        print(f"{technique.name:20} {gain:+6.2f} dB  {' '.join(account.sentences)}")
    job.save(state, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
