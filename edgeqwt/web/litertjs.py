"""LiteRT.js: where its files are, and how to get them. npm is asked once; pages never fetch anything from elsewhere.

Package `@litertjs/core` (Apache-2.0) has the WebAssembly modules, `@litertjs/wasm-utils` the loader that it imports.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgeqwt.errors import ToolError

NAME, VERSION = "litertjs", "2.5.3"
CORE, LOADER = "@litertjs/core", "@litertjs/wasm-utils"
VARIABLE = "EDGEQWT_LITERTJS"
"""Environment variable: a folder with node_modules, such as that of a web project that has LiteRT.js."""
IMPORT = 'from "@litertjs/wasm-utils"'
"""How the runtime names its loader: browsers take no such name, so that the copy in a page names the file."""
SECONDS = 600.0


@dataclass(frozen=True)
class LiteRtJs:
    """The files of LiteRT.js.

    Attributes:
        core: the package's folder.
        loader: that of the package which the core imports.
        version: of the core.
    """

    core: Path
    loader: Path
    version: str

    def files(self) -> dict[str, bytes | Path]:
        """What a page loads, by its path in the page's folder `litert`.

        Raises:
            ToolError: this version of the package is laid out in another way.
        """
        runtime = (self.core / "dist" / "index.js").read_text(encoding="utf-8")
        if runtime.count(IMPORT) != 1:
            raise ToolError(NAME, None, "", f"{CORE} {self.version} is unknown here. {how_to_get()}")
        found: dict[str, bytes | Path] = {
            "index.js": runtime.replace(IMPORT, 'from "./loader.js"').encode(),
            "loader.js": self.loader / "dist" / "index.js",
        }
        found |= {f"wasm/{path.name}": path for path in sorted((self.core / "wasm").iterdir())}
        return found


def how_to_get() -> str:
    """What to do to have LiteRT.js, as a sentence."""
    return (
        f"Install {VERSION} with `edgeqwt tools install {NAME}`, or set {VARIABLE} to a folder in which "
        f"`npm install {CORE}` was run."
    )


def find(folder: Path) -> LiteRtJs | None:
    """LiteRT.js in a folder that npm installed into; None where it is not there or not whole."""
    modules = folder / "node_modules"
    core, loader = modules / CORE, modules / LOADER
    wanted = (core / "dist" / "index.js", core / "wasm", loader / "dist" / "index.js")
    try:
        version = json.loads((core / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return LiteRtJs(core, loader, str(version)) if all(path.exists() for path in wanted) else None


def located(tools: Path) -> Path:
    """The folder that is looked into: the user's, else the managed one.

    Args:
        tools: the folder of managed tools.
    """
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else tools / NAME


def required(tools: Path) -> LiteRtJs:
    """LiteRT.js.

    Raises:
        ToolError: it is not there.
    """
    folder = located(tools)
    found = find(folder)
    if found is None:
        raise ToolError(NAME, None, "", f"There is no LiteRT.js in {folder}. {how_to_get()}")
    return found


def install(tools: Path) -> LiteRtJs:
    """Has npm put the pinned version into the managed folder; what was there is replaced. No script of it runs.

    Raises:
        ToolError: there is no npm, or it fails.
    """
    program, folder = shutil.which("npm"), tools / NAME
    if program is None:
        raise ToolError("npm", None, "", "Install npm (Debian: apt install npm), which brings LiteRT.js.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [program, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
    packages = [f"{CORE}@{VERSION}", f"{LOADER}@{VERSION}"]
    try:
        done = subprocess.run([*command, *packages], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ToolError("npm install", None, "", f"It took more than {SECONDS:.0f} s. Is there a network?") from None
    found = find(folder)
    if done.returncode or found is None:
        raise ToolError("npm install", done.returncode, done.stderr.strip(), "Is there a network, or npm's cache?")
    return found
