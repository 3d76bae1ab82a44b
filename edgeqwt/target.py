"""What a device can run, as data; `targets/` reads profiles from files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetProfile:
    """A family of devices.

    Attributes:
        name: what `--target` takes.
        title: one line for people.
        runtimes: names of `runtime.runners.RUNNERS` that must load and run the model.
        notes: sentences on what was verified and what was not.
    """

    name: str
    title: str
    runtimes: tuple[str, ...]
    notes: tuple[str, ...] = ()
