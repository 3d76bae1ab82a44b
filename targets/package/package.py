"""A folder with what a target's developer needs to run a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.profile import TargetProfile
from edgeqwt.runtime.runners import InterpreterError
from edgeqwt.runtime.subprocess_runners import micro_host
from edgeqwt.target.package import ethos_u, npu, tflite, tflm
from edgeqwt.target.package.details import Details, of_graph
from edgeqwt.target.package.vectors import make_vectors


def package(
    graph: Graph,
    profile: TargetProfile,
    folder: Path,
    feeds: Iterable[Mapping[int, Array]] | None = None,
    details: Details | None = None,
    compress: bool = False,
) -> tuple[str, ...]:
    """Fills a folder with the package that a target's profile names.

    Args:
        graph: the integer model.
        profile: of the target.
        folder: exists; files in it of the same names are replaced.
        feeds: by input tensor of the graph, real values or the tensor's own integers: each becomes a test
            vector. None: a few vectors of random integers.
        details: of the source model (`details.of_build`); None: what the graph itself says.
        compress: whether weights are behind lookup tables in the firmware's model, which TFLite Micro alone runs.

    Returns:
        Sentences that the user must see.

    Raises:
        InterpreterError: the target's runtime refuses the model.
        UnsupportedError: the target's runtime has no kernel for an op; what the NPU's compiler cannot take.
        ToolError: the NPU's compiler fails.
    """
    known = of_graph(graph) if details is None else details
    if compress:
        require_lookup(profile)
    if profile.package == "tflite":
        runtime = "xnnpack" if "xnnpack" in profile.runtimes else "reference"
        tflite.write(graph, folder, make_vectors(graph, runtime, feeds), known)
        return ()
    if profile.package == "tflm":
        return tflm.write(graph, profile, folder, make_vectors(graph, "tflm", feeds), known, compress)
    if profile.package == "npu":
        return npu.write(graph, profile, folder, make_vectors(graph, "reference", feeds), known)
    if profile.package == "ethos-u":
        compiled = ethos_u.compiled_for(graph, profile)  # first: it says what the NPU does not take
        vectors = make_vectors(graph, _oracle(graph), feeds)
        return ethos_u.write(graph, profile, folder, vectors, known, compiled)
    raise InvariantError(f"target {profile.name} names the package {profile.package!r}, which there is not")


def _oracle(graph: Graph) -> str:
    """Whose outputs an NPU is to give: TFLite Micro's, or LiteRT's where TFLite Micro lacks an op that the NPU has."""
    try:
        micro_host().runner("tflm", graph)
    except InterpreterError:
        return "reference"
    return "tflm"


def require_lookup(profile: TargetProfile) -> None:
    """Refuses weights behind lookup tables where no runtime of the target looks them up.

    Raises:
        InputError: the target is not TFLite Micro.
    """
    if profile.package != "tflm":
        hint = "TFLite Micro alone looks weights up: build for a target tflm…, or without --compress."
        raise InputError(f"--compress is not for the target {profile.name}", hint)
