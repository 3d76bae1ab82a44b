"""Vendors whose NPUs a plugin of LiteRT's package compiles for, and where their own libraries (SDKs) are found.

The table is what LiteRT 2.3.0's wheel for x86-64 Linux holds: names as its `apply_plugin_main` takes them, and the
library that each plugin loads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgeqwt.errors import InputError

INSIDE = (".", "lib", "lib/x86_64-linux-clang", "host/lib", "runtime/lib/intel64", "lib64")
"""Where the vendors' SDKs have their libraries for x86-64 Linux, below the SDK's own folder."""


@dataclass(frozen=True)
class Vendor:
    """A vendor of NPUs.

    Attributes:
        name: as LiteRT's plugin calls it, and a target's profile.
        folder: of the plugin, below ai_edge_litert/vendors.
        variables: environment variables that name the SDK's folder, the vendor's own first.
        library: of the SDK, by a pattern; the folder that has it is the one with the libraries.
    """

    name: str
    folder: str
    variables: tuple[str, ...]
    library: str

    @property
    def missing(self) -> str:
        """What to do to have its SDK, a sentence."""
        return f"Set {self.variables[0]} to the folder of {self.name}'s SDK (it has {self.library})."


VENDORS: Mapping[str, Vendor] = MappingProxyType(
    {
        vendor.name: vendor
        for vendor in (
            Vendor("Qualcomm", "qualcomm", ("QNN_SDK_ROOT",), "libQnnHtp.so"),
            Vendor("MediaTek", "mediatek", ("EDGEQWT_MEDIATEK_SDK",), "libneuron*_adapter*.so"),
            Vendor(
                "Google", "google_tensor", ("GOOGLE_TENSOR_COMPILER_LIB", "EDGEQWT_GOOGLE_SDK"),
                "liblitert_plugin_compiler.so",
            ),
            Vendor("Samsung", "samsung", ("EDGEQWT_SAMSUNG_SDK",), "*.so"),
            Vendor("IntelOpenVINO", "intel_openvino", ("INTEL_OPENVINO_DIR",), "libopenvino.so*"),
        )
    }
)  # fmt: skip


def sdk_of(vendor: Vendor) -> tuple[Path, str] | None:
    """The folder with the libraries of the user's own SDK, and the variable that names it; None: none is named.

    Raises:
        InputError: a variable names a folder without such libraries.
    """
    for variable in vendor.variables:
        named = os.environ.get(variable)
        if not named:
            continue
        root = Path(named).expanduser().absolute()
        for inside in INSIDE:
            if any((root / inside).glob(vendor.library)):
                return root / inside, variable
        places = ", ".join(inside for inside in INSIDE if inside != ".")
        hint = f"Name the SDK's folder: {vendor.library} is looked for in it and below it in {places}."
        raise InputError(f"{variable}: {root} has no {vendor.library}", hint)
    return None
