"""A vendor's compiler plugin of LiteRT as a target asks for it: what it takes, and what stays on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from edgeqwt.errors import ToolError, listed, short
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.profile import Finding, Plugin, TargetProfile
from edgeqwt.runtime.qualcomm import Compiled, compile_model
from edgeqwt.target.model import is_float
from edgeqwt.target.rule import ERROR, WARNING

TABLES = ("plugin_ops", "plugin_forms")
"""Rules that say from tables what the plugin itself can be asked for."""


def outputs_of(graph: Graph) -> dict[str, tuple[int, str]]:
    """Of each op's first output, by its name: the op's index and kind."""
    return {graph.tensors[op.outputs[0]].name: (i, op.kind) for i, op in enumerate(graph.ops)}


def compiled_for(graph: Graph, profile: TargetProfile) -> Compiled:
    """The graph through the vendor's plugin.

    Raises:
        ToolError: it is not there, or it fails.
    """
    plugin = profile.plugin
    assert plugin is not None
    if plugin.toolchain is None:
        raise ToolError("apply_plugin_main", None, "", plugin.missing)
    return _compiled(flatbuffer.to_bytes(graph), tuple(outputs_of(graph).items()), plugin)


@lru_cache(maxsize=1)  # findings, budget and package of one build ask for the same
def _compiled(model: bytes, outputs: tuple[tuple[str, tuple[int, str]], ...], plugin: Plugin) -> Compiled:
    assert plugin.toolchain is not None
    return compile_model(model, dict(outputs), plugin.vendor, plugin.soc, plugin.toolchain)


def placement(compiled: Compiled) -> str:
    """Which ops the NPU runs, in how many pieces, as a sentence."""
    parts = "1 partition" if compiled.partitions == 1 else f"{compiled.partitions} partitions"
    on = compiled.ops - len(compiled.left)
    sentence = f"{on} of {compiled.ops} ops run on the NPU of {compiled.soc}, in {parts}"
    if not compiled.left:
        return f"{sentence}."
    named = [f"{left.kind} {short(left.tensor)!r}" for left in compiled.left]
    return f"{sentence}; on the CPU: {listed(named, 8)}."


def plugin_findings(graph: Graph, profile: TargetProfile, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, put right by the plugin itself where a target has one and it is installed.

    What it takes needs no table's word; what it leaves is a warning each, with the fix that a table knows. Float files
    are judged by what they will become, and nobody can ask about that.

    Args:
        graph: of the file.
        profile: the target.
        findings: of the rules.
    """
    if profile.plugin is None or is_float(graph):
        return findings
    try:
        compiled = compiled_for(graph, profile)
    except ToolError as error:
        return (*findings, _not_asked(profile, error))
    known: Mapping[str, Finding] = {found.op: found for found in findings if found.rule in TABLES}
    reasons = f" ({'; '.join(compiled.reasons[:3])})" if compiled.reasons else ""
    left = tuple(
        Finding(
            "plugin",
            WARNING,
            name := f"{op.kind} {op.op}",
            op.tensor,
            f"the NPU's compiler leaves it to the CPU{reasons}",
            known[name].remedy if name in known else "Replace the op, or accept the way to the CPU and back.",
            known[name].fix if name in known else "",
        )
        for op in compiled.left
    )
    others = tuple(found for found in findings if found.rule not in TABLES)
    return tuple(sorted((*others, *left), key=lambda found: found.severity != ERROR))


def _not_asked(profile: TargetProfile, error: ToolError) -> Finding:
    plugin = profile.plugin
    assert plugin is not None
    if plugin.toolchain is None:
        reason = f"{plugin.vendor}'s compiler was not asked, only tables: it is not installed"
        return Finding("plugin", WARNING, "", "", reason, plugin.missing)
    return Finding("plugin", ERROR, "", "", error.message, error.hint)
