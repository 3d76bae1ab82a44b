"""For which processor a program is, from its ELF header."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgeqwt.errors import InputError
from edgeqwt.regular_files import regular

MACHINES: Mapping[int, str] = MappingProxyType({3: "x86", 40: "arm", 62: "x86_64", 183: "arm64", 243: "riscv"})
"""e_machine of the ELF specification."""
ARCHITECTURES: Mapping[int, str] = MappingProxyType(
    {11: "v6-M", 12: "v6-M", 10: "v7-M", 13: "v7E-M", 16: "v8-M.base", 17: "v8-M", 21: "v8.1-M"}
)
"""Tag_CPU_arch of the Arm ABI's build attributes; a Cortex-M4 is v7E-M, an M55 is v8.1-M."""


@dataclass(frozen=True)
class Elf:
    """A program's processor.

    Attributes:
        machine: a value of MACHINES, or "machine N".
        architecture: a value of ARCHITECTURES where a 32-bit Arm program names it; empty otherwise.
    """

    machine: str
    architecture: str = ""


def read_elf(path: Path) -> Elf:
    """Reads a program's header.

    Raises:
        InputError: it cannot be read, or is no ELF file.
    """
    try:
        data = regular(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Name a program file.") from None
    if data[:4] != b"\x7fELF" or len(data) < 20:
        raise InputError(f"{path} is no ELF program", "Name the program file itself, no archive and no script.")
    order = ">" if data[5] == 2 else "<"
    (number,) = struct.unpack_from(f"{order}H", data, 18)
    machine = MACHINES.get(number, f"machine {number}")
    return Elf(machine, _architecture(data) if machine == "arm" else "")


def _architecture(data: bytes) -> str:
    """From the build attributes: after the vendor's name and two lengths, a name (tag 5) or none, then tag 6."""
    found = re.search(rb"aeabi\0.{5}(?:\x05[^\0]*\0)?\x06(.)", data, re.DOTALL)
    return ARCHITECTURES.get(found[1][0], "") if found else ""
