"""torch → torch.export → litert-torch, the official converter of LiteRT's → float TFLite.

litert-torch has a newer torch than edgeqwt's environment: the module travels as an exported program (.pt2), which
newer versions of torch read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.converters import child, tools, trace
from edgeqwt.converters.binding import bind, changes
from edgeqwt.converters.cache import key_of
from edgeqwt.converters.converter import Work
from edgeqwt.converters.layout import named_after_locations, named_as_in_source, without_transposes
from edgeqwt.converters.source import Source
from edgeqwt.converters.tools import Found
from edgeqwt.errors import InputError, ParityError, ToolError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.loading import place_in
from edgeqwt.lowering.fake_quant import is_fake_quantized

if TYPE_CHECKING:
    import torch

NAME = "litert-torch"
CHILD = Path(__file__).with_name("litert_torch_child.py")
GIVEN = "model.pt2"
HELPERS = frozenset({"TRANSPOSE", "RESHAPE", "PAD", "PADV2", "CAST"})
"""Ops that a module seldom is there for."""
WRAPPER = "module"  # what `torch_source.flat_module` calls the user's module


@dataclass(frozen=True)
class LitertTorch:
    """litert-torch.

    Attributes:
        name: as users write it.
    """

    name: str = NAME

    def takes(self, source: Source) -> bool:
        """Modules and exported programs of torch's, but TorchScript: torch.export does not take that."""
        return source.torch is not None and not source.torch.scripted

    def find(self, work: Work) -> Found:
        """See `Converter`."""
        return tools.find(NAME)

    def convert(self, source: Source, work: Work) -> ConvertedModel:
        """See `Converter`.

        Raises:
            InputError: torch cannot export the module.
            ToolError: litert-torch is missing or fails.
            ParityError, UnsupportedError: what it wrote cannot be used.
        """
        from edgeqwt.converters.from_torch import source as torch_source

        assert source.torch is not None
        found = self.find(work)
        if found.version is None:
            raise tools.missing(found)
        work.progress("exporting with torch.export")
        program = torch_source.program_of(source.torch, source.sample, work.torch_log)
        work.progress("converting with litert-torch")
        file = work.folder / "litert_torch" / "model.tflite"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        torch_source.save(program, file.with_name(GIVEN), work.torch_log)
        log, cached = _run(file, found, work)
        graph, moved_in, moved_out = without_transposes(_read(file, found, log))
        if is_fake_quantized(graph):
            raise InputError(
                f"{source.what} was trained with quantization, which is not taken through litert-torch", "Use onnx2tf."
            )
        where = _locations(graph, program)
        _refuse_custom(graph, where)
        inputs, outputs = bind(graph, source.inputs, source.sample, source.outputs, moved_in, moved_out)
        names = {graph.tensors[b.tensor].name: b.spec.name for b in (*inputs, *outputs)}
        graph = named_as_in_source(graph, (*inputs, *outputs))
        kept = {tensor.name for tensor in graph.tensors}
        where = {name if name in kept else names[name]: location for name, location in where.items()}
        graph, where = named_after_locations(graph, where)
        return ConvertedModel(
            graph=graph,
            inputs=inputs,
            outputs=outputs,
            run_source=source.run,
            trace_source=_Tracer(source, program, graph, inputs).trace,
            locations=where,
            notes=(*source.notes, *graph.remarks, *changes(graph, inputs, outputs)),
            log=log,
            versions={**(source.versions or {}), NAME: found.version},
            cached=cached,
        )


def _run(file: Path, found: Found, work: Work) -> tuple[Path, bool]:
    """Runs litert-torch on the program beside the file; returns its log, and whether all of it came from the cache."""
    given = file.with_name(GIVEN)
    log = work.folder / "litert_torch.log"
    key = "" if work.cache is None else key_of(given, found.python, NAME, CHILD.read_text("utf-8"))
    if work.cache is not None and work.cache.restore(key, work.folder):
        given.unlink()
        return log, True
    command = [found.python, "-P", str(CHILD), str(given), str(file)]
    try:
        status: int | None = child.run_logged(command, file.parent, child.environment(found.python), log)
    except OSError:
        status = None
    given.unlink()  # as long as all weights
    if status != 0 or not file.is_file():
        place = place_in(log.read_text("utf-8", "replace"))
        hint = (
            f"{f'It names {place}. ' if place else ''}If an op is not supported, replace it, or cut the model before "
            f"it. --work FOLDER keeps the whole log, as {log.name}."
        )
        raise ToolError(NAME, status, child.tail(log), hint)
    if work.cache is not None:
        work.cache.keep(key, work.folder, (file, log))
    return log, False


def _read(file: Path, found: Found, log: Path) -> Graph:
    try:
        return flatbuffer.read(file)
    except InputError as error:
        raise ParityError(
            f"litert-torch {found.version} wrote a file that cannot be used: {error.message}",
            f"Change the model around that location. --work FOLDER keeps the log, as {log.name}.",
        ) from error


def _refuse_custom(graph: Graph, where: Mapping[str, str]) -> None:
    for i, op in enumerate(graph.ops):
        if op.kind == "CUSTOM":
            location = where.get(graph.tensors[op.outputs[0]].name, "an unknown location")
            raise UnsupportedError(
                f"{graph.describe(i)}, from {location},",
                "tflite",
                f"litert-torch wrote the custom op {op.custom_code!r}",
                "Replace it in the model, or cut the model before it.",
            )


# -- where ops come from -----------------------------------------------------------------


def _locations(graph: Graph, program: torch.export.ExportedProgram) -> dict[str, str]:
    """Graph tensor name to the module that computes it, with the op where the module holds several."""
    paths = _module_paths(program)
    found: dict[str, tuple[str, str]] = {}
    for op in graph.ops:
        for t in op.outputs:
            name = graph.tensors[t].name
            known = [paths[part] for part in name.split(";") if part in paths]
            if known:  # of fused ops the last is the one that computes, the others what it took up
                found[name] = (known[-1], op.kind)
    last = [node for node in program.graph.nodes if node.op == "output"][-1].args[0]
    for t, node in zip(graph.outputs, last if len(last) == len(graph.outputs) else (), strict=False):
        scopes = list((node.meta.get("nn_module_stack") or {}).values())  # an output has the output's name
        if scopes and graph.tensors[t].name not in found:
            producer = graph.producers().get(t)
            kind = "" if producer is None else graph.ops[producer].kind
            found[graph.tensors[t].name] = (_path(scopes[-1][0]), kind)
    ops_in = Counter(path for path, kind in found.values() if kind not in HELPERS)
    return {
        name: path if path and ops_in[path] == 1 and kind not in HELPERS else f"{path or 'forward'} ({kind})"
        for name, (path, kind) in found.items()
    }


def _module_paths(program: torch.export.ExportedProgram) -> dict[str, str]:
    """What litert-torch names tensors after, the classes and names of the modules around an op, to the module's path.

    It writes each module as its class, then "_" and the last part of its path.
    """
    paths = {}
    for node in program.graph.nodes:
        scopes = list((node.meta.get("nn_module_stack") or {}).values())
        written = []
        for path, kind in scopes:
            kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            written.append(f"{kind}_{path.rpartition('.')[2]}" if path else kind)
        if scopes:
            paths["/".join(written)] = _path(scopes[-1][0])
    return paths


def _path(name: str) -> str:
    """A module's path in the user's model."""
    return "" if name == WRAPPER else name.removeprefix(f"{WRAPPER}.")


@dataclass(frozen=True)
class _Tracer:
    """Runs the exported program with all its values in sight."""

    source: Source
    program: torch.export.ExportedProgram
    graph: Graph
    inputs: tuple[Binding, ...]

    @cached_property
    def _module(self) -> Any:
        return self.program.module()

    def trace(self, sample: Sample) -> dict[str, Array]:
        """The source's values of graph tensors: see `trace.align`."""
        from edgeqwt.converters.from_torch import source as torch_source

        assert self.source.torch is not None
        values = torch_source.every_value(self._module, list(self.source.torch.tensors(sample).values()))
        return trace.matched(self.graph, self.inputs, sample, values, {})
