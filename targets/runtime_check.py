"""What a runtime says of a file when it is asked, in a process of its own: tables know of most ops, it knows of all."""

from __future__ import annotations

import numpy as np

from edgeqwt.extras import MissingPackageError
from edgeqwt.graph.graph import DTYPES, Graph
from edgeqwt.profile import Finding, TargetProfile
from edgeqwt.runtime.runners import InterpreterError
from edgeqwt.runtime.subprocess_runners import litert_host, micro_host
from edgeqwt.target.model import is_float
from edgeqwt.target.rule import ERROR, WARNING

KERNELS = ("micro_ops", "micro_types", "integer_form")
"""Rules that say of a file that a kernel is missing."""
REMEDY = "Build the file from its float model with edgeqwt, or replace what it names."
RUN = 1 << 20  # activations beyond which a file is only loaded: the reference kernels are slow


def runtime_findings(graph: Graph, profile: TargetProfile, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, put right by the interpreters that the target runs on.

    What a runtime refuses is an error, in its own words, where no other finding says so already. Float files are judged
    by what they will become, and nobody can ask about that.

    Args:
        graph: of the file.
        profile: the target.
        findings: of the rules.
    """
    types = {graph.tensors[t].dtype for t in graph.inputs}
    if is_float(graph) or not types <= DTYPES.keys():
        return findings
    if "xnnpack" in profile.runtimes:
        findings = _loaded(graph, findings)
    return _run_in_micro(graph, findings) if "tflm" in profile.runtimes else findings


def _loaded(graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """With what LiteRT says of a file that it does not load: XNNPACK refuses the whole of it for one op."""
    try:
        litert_host().runner("xnnpack", graph)
    except InterpreterError as error:
        if not any(found.severity == ERROR for found in findings):
            return (Finding("litert_loads", ERROR, "", "", error.message, REMEDY, ""), *findings)
    return findings


def _run_in_micro(graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What TFLite Micro runs has its kernels, whatever the tables say."""
    try:
        runner = micro_host().runner("tflm", graph)
        if sum(t.size for t in graph.tensors if not t.is_constant) <= RUN:
            runner.run({t: np.zeros(graph.tensors[t].shape, DTYPES[graph.tensors[t].dtype]) for t in graph.inputs})
    except MissingPackageError as error:
        listed = "TFLite Micro itself was not asked, only tables: the package tflite-micro is not installed"
        return (*findings, Finding("micro_runs", WARNING, "", "", listed, error.hint, ""))
    except InterpreterError as error:
        if any(found.severity == ERROR and found.rule in KERNELS for found in findings):
            return findings
        return (Finding("micro_runs", ERROR, "", "", error.message, REMEDY, ""), *findings)
    return tuple(found for found in findings if found.rule not in KERNELS)
