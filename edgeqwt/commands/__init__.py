"""The commands: each parses its options, calls the Python API, prints.

Importing this registers them, in the order in which `--help` lists them.
"""

from __future__ import annotations

from edgeqwt.commands import build, demo, files, inspect_builds, on_devices, recipes, study, sweep, tools
from edgeqwt.commands.app import app

__all__ = ["app", "build", "demo", "files", "inspect_builds", "on_devices", "recipes", "study", "sweep", "tools"]
