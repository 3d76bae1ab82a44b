"""The part of the Python API that asks targets, devices and programs that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.errors import InputError
from edgeqwt.profile import Budget, Finding, Plugin, TargetProfile
from edgeqwt.runtime.qualcomm import located
from edgeqwt.runtime.vendors import VENDORS, Vendor, sdk_of

if TYPE_CHECKING:
    from edgeqwt.benchmark.bench import Options
    from edgeqwt.benchmark.result import BenchResult
    from edgeqwt.converters.tools import Found


def target_of(name: str) -> TargetProfile:
    """A target by name, or from a TOML file of the user's, with its vendor's compiler where that is installed.

    Raises:
        InputError: there is no such target, or its file is wrong, or what is named as the vendor's SDK is none.
        ToolError: the vendor's compiler is named, and cannot be used.
    """
    from edgeqwt.target.load import load

    profile = load(name)
    return profile if profile.plugin is None else replace(profile, plugin=_with_toolchain(profile.plugin))


PLUGINS = ("qualcomm", "litert-torch")
"""Tools whose environments have LiteRT's package with the plugins of all vendors."""


def _with_toolchain(plugin: Plugin) -> Plugin:
    """A plugin with where its compiler is, or with what to do to have it."""
    from edgeqwt.converters.tools import find, how_to_get

    vendor = VENDORS[plugin.vendor]
    named, packaged = sdk_of(vendor), vendor.folder in PLUGINS
    if named is None and not packaged:
        return replace(plugin, missing=vendor.missing)
    names = PLUGINS if named else (vendor.folder,)
    tool = next((tool for tool in map(find, names) if tool.version is not None), None)
    if tool is None:
        return replace(plugin, missing=how_to_get(names[0]) + (f" {vendor.missing}" if not packaged else ""))
    return replace(plugin, toolchain=located(tool.python, None if named is None else named[0]))


def check(
    path: str | Path, target: str, *, fixed: str | Path | None = None, bits: int = 8, budget: Budget | None = None
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What a target does not take of a .tflite file, float or integer, or takes at a price.

    Args:
        path: of the file.
        target: a name that `targets()` lists, or the path of a .toml profile.
        fixed: a file to write, with what findings offer to apply applied; the findings are then its own.
        bits: width of the activations that a float file will get, 8 or 16.
        budget: its RAM and flash take the place of the profile's.

    Returns:
        Findings, errors first, and sentences on what was fixed.

    Raises:
        InputError: it is no readable .tflite file, there is no such target, or `bits` is neither 8 nor 16.
    """
    from edgeqwt.benchmark.describe import read_model
    from edgeqwt.converters.from_tflite.control_flow import settled
    from edgeqwt.converters.from_tflite.sequence_lstm import written_out
    from edgeqwt.graph import flatbuffer
    from edgeqwt.report.folder import check_file as check_output
    from edgeqwt.runtime.foreign import survived
    from edgeqwt.target.check import check
    from edgeqwt.target.fix import fix
    from edgeqwt.target.model import is_float
    from edgeqwt.target.plugin import plugin_findings
    from edgeqwt.target.runtime_check import runtime_findings

    if bits not in (8, 16):
        raise InputError(f"activations of {bits} bits", "A float file gets 8 or 16.")
    profile, (_, graph) = target_of(target), read_model(Path(path))
    graph = survived(graph, str(path))
    done: tuple[str, ...] = ()
    if fixed is not None:
        check_output(Path(fixed))
        graph, done = fix(graph, profile)
        flatbuffer.write(graph, Path(fixed))
    if is_float(graph):  # judged by what a build makes of it, which writes out what it can
        graph = written_out(settled(graph))[0]
    findings = runtime_findings(graph, profile, check(graph, profile, bits=bits, budget=budget))
    return plugin_findings(graph, profile, findings), done


def bench(paths: Sequence[str | Path], where: str, options: Options | None = None) -> tuple[BenchResult, ...]:
    """Measures .tflite files, or firmwares, side by side.

    Args:
        paths: one, or two to compare.
        where: host, tflm, qemu, android, browser, or a target.
        options: see `edgeqwt.benchmark.bench.Options`.

    Raises:
        InputError: no such backend; a file or an option that the backend needs is missing or wrong.
        ToolError: a program that the backend needs is missing or fails.
        UnsupportedError: Vela would crash on the model; an op has no form in ONNX, by which an NPU is simulated.
    """
    from edgeqwt.benchmark.bench import BACKENDS, Options, bench
    from edgeqwt.converters.tools import tools_folder
    from edgeqwt.target.load import names
    from edgeqwt.web.litertjs import required

    files = [Path(path) for path in paths]
    if where == "browser":
        options = replace(options or Options(), litertjs=required(tools_folder()))
    if where in BACKENDS or not (where in names() or where.endswith(".toml")):
        return bench(files, where, None, options)  # which refuses what is no backend
    profile = target_of(where)
    if profile.plugin is not None:
        options = replace(options or Options(), plugin=profile.plugin)
        return bench(files, where, None, options)
    if profile.npu is None and profile.package == "tflm":
        return bench(files, "tflm", None, options)
    if profile.npu is None and "xnnpack" in profile.runtimes:
        return bench(files, "host", None, options)
    return bench(files, where, profile.npu, options)


def targets() -> tuple[TargetProfile, ...]:
    """The targets that `build` knows."""
    from edgeqwt.target.load import load, names

    return tuple(load(name) for name in names())


def tools() -> tuple[Found, ...]:
    """The programs that edgeqwt calls, with version, state and path."""
    from edgeqwt.converters.tools import TOOLS, Found, find, tools_folder
    from edgeqwt.web import litertjs

    folder = litertjs.located(tools_folder())
    browsers = litertjs.find(folder)
    version, problem = (None, "not installed") if browsers is None else (browsers.version, "")
    sdks = [row for row in map(_sdk, VENDORS.values()) if row is not None]
    return (*map(find, TOOLS), Found(litertjs.NAME, version, str(folder), "npm", problem), *sdks)


def _sdk(vendor: Vendor) -> Found | None:
    """A row on a vendor's SDK; None where another tool brings its libraries and the user names no other."""
    from edgeqwt.converters.tools import Found

    name = f"{vendor.name} SDK"
    try:
        found = sdk_of(vendor)
    except InputError as error:
        return Found(name, None, "", f"${vendor.variables[0]}", error.message)
    if found is None:
        return None if vendor.folder in PLUGINS else Found(name, None, "", f"${vendor.variables[0]}", "not named")
    return Found(name, "", str(found[0]), f"${found[1]}")


def install_tool(name: str, python: str | Path | None = None) -> Found:
    """Makes a managed environment with a tool; see `converters.tools.install` and `web.litertjs.install`."""
    from edgeqwt.converters.tools import Found, install, tools_folder
    from edgeqwt.web import litertjs

    if name == litertjs.NAME:
        found = litertjs.install(tools_folder())
        return Found(litertjs.NAME, found.version, str(tools_folder() / litertjs.NAME), "npm")
    return install(name, None if python is None else str(python))
