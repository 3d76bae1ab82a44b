"""Which Python environment each tool lives in, and whether it is there.

The tools' pins exclude each other (onnx2tf 2.6.9 wants ai-edge-litert 2.1.2, litert-torch 0.10.0 wants 2.3.0), so
each may have an environment of its own. An environment variable names its interpreter; else a managed environment
is used, which `edgeqwt tools install` makes; else the environment that edgeqwt runs in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgeqwt.converters import child
from edgeqwt.errors import InputError, ToolError
from edgeqwt.extras import versions_of

FOLDER_VARIABLE = "EDGEQWT_TOOLS"
"""Environment variable: the folder of managed environments, one folder each."""
TENSORFLOW = ("tensorflow", "tensorflow-cpu")  # the same, under two names
OWN, MANAGED = "the environment of edgeqwt", "managed"


@dataclass(frozen=True)
class Tool:
    """A program that edgeqwt calls and that may live in an environment of its own.

    Attributes:
        name: as users write it.
        packages: distributions of which the first that is there says the version.
        variable: environment variable that names an interpreter which has it; empty where only edgeqwt's own
            environment counts.
        purpose: what it is for.
        size: of a managed environment, in words; empty where none can be made.
    """

    name: str
    packages: tuple[str, ...]
    variable: str
    purpose: str
    size: str = ""


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool("onnx2tf", ("onnx2tf",), "EDGEQWT_ONNX2TF_PYTHON", "converts PyTorch and ONNX", "1 GB"),
            Tool("litert-torch", ("litert-torch",), "EDGEQWT_LITERT_TORCH_PYTHON", "converts PyTorch", "6.5 GB"),
            Tool("tensorflow", TENSORFLOW, "EDGEQWT_TENSORFLOW_PYTHON", "converts Keras and SavedModel", "2.3 GB"),
            Tool(
                "qualcomm",
                ("onnxruntime-qnn",),
                "EDGEQWT_QUALCOMM_PYTHON",
                "compiles for Snapdragon's NPU, and simulates it",
                "0.6 GB",
            ),
            Tool("vela", ("ethos-u-vela",), "", "compiles for Arm Ethos-U"),
        )
    }
)


@dataclass(frozen=True)
class Found:
    """Where a tool was looked for, and what was found.

    Attributes:
        tool: its name.
        version: of the tool; None where it is not there, empty where it does not say.
        python: the interpreter that has it, or was asked; the folder of what is no Python.
        where: the environment variable that names it, "managed", or "the environment of edgeqwt".
        problem: why it cannot be used; empty where it can.
    """

    tool: str
    version: str | None
    python: str
    where: str
    problem: str = ""


def tools_folder() -> Path:
    """The folder of managed environments: $EDGEQWT_TOOLS, else edgeqwt/tools in the user's data folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "edgeqwt" / "tools"


def managed_python(name: str) -> Path:
    """The interpreter of a tool's managed environment, which need not exist."""
    return tools_folder() / name / "bin" / "python"


def find(name: str, chosen: str | None = None) -> Found:
    """Looks for a tool.

    Args:
        name: a key of TOOLS.
        chosen: an interpreter that the user named for this call.
    """
    tool = TOOLS[name]
    named = chosen or (os.environ.get(tool.variable) if tool.variable else None)
    if named:
        where = tool.variable if not chosen else "as chosen"
        python = shutil.which(os.path.expanduser(named))
        if python is None:
            return Found(name, None, named, where, f"{named} is no program")
        return _asked(tool, os.path.abspath(python), where)
    managed = managed_python(name)
    if managed.exists() and not (managed.parents[1] / UNFINISHED).exists():
        return _asked(tool, str(managed), MANAGED)
    for version in versions_of(*tool.packages).values():
        return Found(name, version, sys.executable, OWN)
    return Found(name, None, sys.executable, OWN, "not installed")


def missing(found: Found) -> ToolError:
    """The error where a tool is needed that is not there."""
    return ToolError(found.tool, None, "", f"{found.problem} ({found.where}). {how_to_get(found.tool)}")


def how_to_get(name: str) -> str:
    """What to do to have a tool, as a sentence."""
    tool = TOOLS[name]
    if not tool.variable:
        return f"Install it: pip install {tool.packages[0]}."
    return f"Install it with `edgeqwt tools install {name}`, or set {tool.variable} to a Python that has it."


def _asked(tool: Tool, python: str, where: str) -> Found:
    script = (
        f"import importlib.metadata as m; names = {tool.packages!r}; "
        "found = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}; "
        "print(*[found[n] for n in names if n in found][:1])"
    )
    try:
        done = subprocess.run(
            [python, "-P", "-c", script], env=child.environment(python), capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(tool.name, None, python, where, f"{python} does not run: {error}")
    if done.returncode != 0 or not done.stdout.strip():
        return Found(tool.name, None, python, where, f"{python} has no {tool.packages[0]}")
    return Found(tool.name, done.stdout.strip(), python, where)


# -- managed environments --------------------------------------------------------------

UNFINISHED = ".unfinished"
"""Present in a managed environment until everything is in place: one that was stopped half-way does not count."""


def install(name: str, python: str | None = None) -> Found:
    """Makes a managed environment with a tool at the versions that are pinned for it; an older one is replaced.

    Args:
        name: a key of TOOLS.
        python: interpreter to make it with; the running one by default. It must be a Python 3.12 or 3.13.

    Raises:
        InputError: there is no such tool, or none that an environment can be made for.
        ToolError: pip fails; what it said is the log's tail.
    """
    if name not in TOOLS or not TOOLS[name].size:
        known = ", ".join(tool.name for tool in TOOLS.values() if tool.size)
        raise InputError(f"no environment can be made for {name!r}", f"These can be installed: {known}.")
    folder = tools_folder() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / UNFINISHED).touch()
    log = folder / "install.log"
    inside = folder / "bin" / "python"
    pins = Path(__file__).with_name("pins") / f"{name}.txt"
    install_pins = [
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--requirement",
        str(pins),
    ]
    for command in ([python or sys.executable, "-m", "venv", str(folder)], [str(inside), *install_pins]):
        variables = dict(os.environ) | {"PYTHONNOUSERSITE": "1"}
        try:
            status: int | None = child.run_logged(command, folder, variables, log)
        except OSError:
            status = None
        if status != 0:
            hint = f"The whole log is {log}. There must be a network or a pip cache, and some GB of disk."
            raise ToolError(" ".join(command[:3]), status, child.tail(log) if log.is_file() else "", hint)
    (folder / UNFINISHED).unlink()
    found = _asked(TOOLS[name], str(inside), MANAGED)
    if found.version is None:
        raise ToolError(name, None, child.tail(log), found.problem)
    return found
