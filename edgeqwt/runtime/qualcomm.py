"""An NPU's compiler without the NPU: LiteRT's plugin of a vendor; Qualcomm's libraries simulate the arithmetic, too.

`ai-edge-litert` brings the plugin, `onnxruntime-qnn` Qualcomm's libraries for x86-64 (QNN): both packages live in an
environment of their own, as their versions exclude those of the converters. The vendor's own SDK takes the place of the
libraries where the user has it (`runtime.vendors`). Qualcomm's plugin names a libQnnLpai.so as needed,
which onnxruntime-qnn lacks and which is only called for low-power audio chips: a library without any function stands
in for it (`empty_library`).

A crash of native code ends a subprocess only.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeqwt.children import Watched
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import ToolError
from edgeqwt.graph.schema import enum_names, schema
from edgeqwt.runtime.vendors import VENDORS

LPAI = "libQnnLpai.so"
DISPATCH = "DISPATCH_OP"
"""The custom op that stands for a partition in a compiled file."""
SECONDS = 900.0
"""The largest network that was tried takes some seconds."""
_SELECTED = re.compile(r"selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions")
_REFUSED = re.compile(r"(Failed to validate op \S+(?: with error \S+)?)")
_TROUBLE = re.compile(r"\[ *ERROR *\]|^ERROR")
# The libraries say this of every graph, taken or not.
_HARMLESS = ("unexpected GraphHtpSettings option",)


@dataclass(frozen=True)
class Toolchain:
    """Where the plugin and the libraries are.

    Attributes:
        python: the interpreter of their environment.
        litert: folder of the package ai_edge_litert.
        libraries: folders of the vendor's libraries that the plugin loads.
        simulation: folders of those that simulate the NPU; empty where there is no simulation.
        versions: of the packages, by name.
    """

    python: str
    litert: Path
    libraries: tuple[Path, ...]
    simulation: tuple[Path, ...]
    versions: tuple[tuple[str, str], ...]

    def variables(self, *folders: Path) -> dict[str, str]:
        """The environment in which libraries of some folders are found."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return inherited | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, folders)), "PYTHONNOUSERSITE": "1"}


@dataclass(frozen=True)
class Left:
    """An op that stays on the CPU.

    Attributes:
        op: its index in the graph.
        kind: of the op.
        tensor: name of its output.
    """

    op: int
    kind: str
    tensor: str


@dataclass(frozen=True)
class Compiled:
    """A model as the plugin compiled it.

    Attributes:
        model: a TFLite file whose partitions are custom ops with the NPU's program; empty where no op goes there.
        soc: what it was compiled for.
        ops: of the model before.
        partitions: how many pieces of it run on the NPU, each called from the CPU.
        left: the ops that stay on the CPU.
        reasons: what the libraries said against ops, in their words; they name ops by kind and number.
        log: everything that was printed.
    """

    model: bytes
    soc: str
    ops: int
    partitions: int
    left: tuple[Left, ...]
    reasons: tuple[str, ...]
    log: str


def located(python: str, sdk: Path | None = None) -> Toolchain:
    """The packages in an interpreter's environment.

    Args:
        python: the interpreter.
        sdk: a folder with the vendor's libraries, in place of onnxruntime-qnn's.

    Raises:
        ToolError: they are not there, or the interpreter does not run.
    """
    script = (
        "import importlib.util as u, importlib.metadata as m\n"
        "for n in ('ai-edge-litert', 'onnxruntime-qnn', 'onnxruntime'):\n"
        "    s = u.find_spec(n.replace('-', '_'))\n"
        "    if s: print(n, m.version(n), s.submodule_search_locations[0])"
    )
    done = subprocess.run([python, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    found = {name: (version, Path(place)) for name, version, place in map(_words, done.stdout.splitlines())}
    needed = ("ai-edge-litert", *(() if sdk else ("onnxruntime-qnn",)))
    if done.returncode != 0 or not found.keys() >= {*needed}:
        raise ToolError(python, done.returncode, done.stderr, f"It must have {' and '.join(needed)}.")
    simulation: tuple[Path, ...] = ()
    if "onnxruntime-qnn" in found:
        package = found["onnxruntime-qnn"][1]
        simulation = (package, package.with_name("onnxruntime_qnn.libs"))
    versions = tuple((name, version) for name, (version, _) in found.items())
    return Toolchain(python, found["ai-edge-litert"][1], (sdk,) if sdk else simulation, simulation, versions)


def _words(line: str) -> tuple[str, str, str]:
    name, version, place = line.split(" ", 2)
    return name, version, place


def compile_model(
    model: bytes, names: Mapping[str, tuple[int, str]], vendor: str, soc: str, toolchain: Toolchain
) -> Compiled:
    """Compiles a TFLite model with LiteRT's plugin.

    Args:
        model: the file's bytes.
        names: of each op's first output tensor, the op's index and kind.
        vendor: as the plugin calls itself, a key of `VENDORS`.
        soc: the chip, such as SM8650.
        toolchain: where everything is.

    Raises:
        ToolError: the plugin fails, or compiles nothing without saying that it takes no op.
    """
    with TemporaryFolder() as folder:
        (folder / LPAI).write_bytes(empty_library(LPAI))
        (folder / "model.tflite").write_bytes(model)
        out = folder / "compiled.tflite"
        command = [
            str(toolchain.litert / "tools" / "apply_plugin_main"), "--cmd=apply", f"--model={folder / 'model.tflite'}",
            f"--o={out}", f"--soc_manufacturer={vendor}", f"--soc_model={soc}", "--err=--",
            f"--libs={toolchain.litert / 'vendors' / VENDORS[vendor].folder / 'compiler'}",
        ]  # fmt: skip
        try:
            status, printed, _ = Watched(
                command, folder=folder, variables=toolchain.variables(*toolchain.libraries, folder)
            ).wait(SECONDS)
        except FileNotFoundError:
            hint = "This package of ai-edge-litert has no compiler plugins: install the pinned one."
            raise ToolError(command[0], None, "", hint) from None
        except subprocess.TimeoutExpired:
            raise ToolError("apply_plugin_main", None, "", f"It did not end within {SECONDS:g} s.") from None
        content = out.read_bytes() if out.is_file() else b""
    log = printed.decode("utf-8", "replace")
    found = _SELECTED.findall(log)
    if not found or (status != 0 and any(int(taken) for taken, _, _ in found)):
        trouble = [line.strip() for line in log.splitlines() if _TROUBLE.search(line) and not _harmless(line)]
        hint = f"Its last word: {trouble[-1][-200:]}" if trouble else f"It knows no {vendor} {soc}, or not this model."
        raise ToolError("apply_plugin_main", status, "\n".join(log.splitlines()[-20:]), hint)
    stays = set(_written(content)) if content else set(names)
    left = tuple(Left(i, kind, name) for name, (i, kind) in sorted(names.items(), key=lambda n: n[1]) if name in stays)
    partitions = sum(int(parts) for _, _, parts in found)
    reasons = tuple(dict.fromkeys(_REFUSED.findall(log)))
    return Compiled(content, soc, len(names), partitions, left, reasons, log)


def _harmless(line: str) -> bool:
    return any(words in line for words in _HARMLESS)


def _written(model: bytes) -> list[str]:
    """Names of the first output of each op of a compiled file that is no partition."""
    found = schema().Model.GetRootAs(model)
    main, names = found.Subgraphs(0), enum_names("BuiltinOperator")
    codes = [found.OperatorCodes(i) for i in range(found.OperatorCodesLength())]

    def stays(op: Any) -> bool:
        code = codes[op.OpcodeIndex()]
        custom = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] == "CUSTOM"
        return not (custom and (code.CustomCode() or b"").decode() == DISPATCH)

    ops = [main.Operators(i) for i in range(main.OperatorsLength())]
    return [main.Tensors(op.Outputs(0)).Name().decode() for op in ops if stays(op)]


def empty_library(name: str) -> bytes:
    """A shared object for x86-64 Linux that has a name and nothing else, as the dynamic loader takes it.

    One loadable segment holds all of it; the second program header points to the table that the loader reads: the
    name, the strings, a table of one symbol (the undefined one that each begins with) and a hash table of none.
    Fields are those of the System V ABI, AMD64 supplement.
    """
    strings = b"\0" + name.encode() + b"\0"
    headers, symbol = 64 + 2 * 56, bytes(24)
    table = struct.pack("<4I", 1, 1, 0, 0)  # one bucket, one symbol: nothing is found
    at_strings = headers
    at_symbols = -(-(at_strings + len(strings)) // 8) * 8
    at_hash = at_symbols + len(symbol)
    at_dynamic = at_hash + len(table)
    soname, hash_, strtab, symtab, strsz, syment = 14, 4, 5, 6, 10, 11
    entries = [(soname, 1), (hash_, at_hash), (strtab, at_strings), (symtab, at_symbols), (strsz, len(strings))]
    dynamic = b"".join(struct.pack("<2Q", *entry) for entry in (*entries, (syment, len(symbol)), (0, 0)))
    size = at_dynamic + len(dynamic)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<2HI3QI6H", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<2I6Q", 1, 6, 0, 0, 0, size, size, 4096)  # readable and writable: the loader relocates it
    points = struct.pack("<2I6Q", 2, 6, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), 8)
    body = strings.ljust(at_symbols - at_strings, b"\0") + symbol + table + dynamic
    return header + load + points + body
