"""The part of the Python API that runs .tflite files side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.calibration.validate import validated
from edgeqwt.disk import TemporaryFolder, keep_apart, write_whole
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph
from edgeqwt.invocation import recorded
from edgeqwt.loading import trusting
from edgeqwt.progress import Display, Stages, automatic, counted

if TYPE_CHECKING:
    from edgeqwt.recipe.recipe import Recipe
    from edgeqwt.repair import CompensationResult
    from edgeqwt.report.inspect import Description
    from edgeqwt.verify.compare import Comparison
    from edgeqwt.verify.scoring import Scores

SWAPPED = (
    "the first file is integer and the second float: they are swapped. The first is what is compared with, and the "
    "second what is judged"
)

MENDED = "`edgeqwt check FILE --target tflite --fix -o OUT` writes such layers so that every kernel computes them."


@recorded
def compensate(
    model: str | Path,
    reference: str | Path,
    *,
    calibration: Source,
    output: str | Path | None = None,
    recipe: str | Recipe = "balanced",
    images: ImageOptions | None = None,
    samples: int | None = None,
    accept: bool | None = None,
    trust: bool = False,
    display: Display = automatic,
) -> CompensationResult:
    """Repairs an int8 TFLite file, made by any tool, against the float file that it came from.

    The result has the same ops and is no larger; where compensation does not help on held-out
    samples it is the file as it was.

    Args:
        model: the int8 file.
        reference: the float file, or any other source that `build` takes from a file, "file.py:function" included.
        calibration: as for `build`, in the float file's layout.
        output: the file to write, and a report beside it as .report.html; none by default.
        recipe: its ranges and compensation sections count.
        images: as for `build`.
        samples: as for `build`.
        accept: compensate although the reference is hardly what the file was made from.
        trust: as for `build`.
        display: shows the stages while they run; by default notebooks do, and nothing elsewhere.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; nothing is written then.
    """
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer
    from edgeqwt.judgement import UNCOMPENSATED
    from edgeqwt.recipe.recipe import load as load_recipe
    from edgeqwt.recipe.recipe import with_quality
    from edgeqwt.repair import check_order, compensate_graph
    from edgeqwt.report.files import page_beside, write_repaired
    from edgeqwt.report.folder import check_file
    from edgeqwt.runtime.foreign import read_foreign

    stages = Stages(display)
    chosen = with_quality(load_recipe(recipe) if isinstance(recipe, str) else recipe, None, accept)
    if output is not None:
        check_file(Path(output))
        check_file(page_beside(Path(output)))
        keep_apart(Path(output), (reference, calibration))  # the file itself may be repaired in its place
    graph, is_file = read_foreign(Path(model)), Path(reference).suffix == ".tflite"
    check_order(str(model), graph, str(reference), flatbuffer.read(Path(reference)) if is_file else None)
    for sentence in _as_meant(model, graph)[1]:
        raise InputError(sentence.removesuffix(f" {MENDED}"), MENDED)
    data = limited(open_samples(calibration, images=images), samples)
    with trusting(trust), TemporaryFolder() as work, stages.steps("convert") as step:
        converted = convert(str(reference), data, work, progress=step)
    result = compensate_graph(graph, converted, data, chosen, stages)
    result = replace(result, sizes={**result.sizes, UNCOMPENSATED: Path(model).stat().st_size})  # not as written anew
    if output is not None:
        content = Path(model).read_bytes() if result.graph is graph else flatbuffer.to_bytes(result.graph)
        write_repaired(result, content, Path(model), str(reference), calibration, Path(output))
    return result


@recorded
def compare(
    first: str | Path,
    second: str | Path,
    *,
    calibration: Source,
    images: ImageOptions | None = None,
    samples: int | None = None,
    report: str | Path | None = None,
    display: Display = automatic,
) -> Comparison:
    """SQNR of every tensor that two TFLite files have in common, by name, and of their outputs.

    Args:
        first: the file to compare with, usually float.
        second: the file to judge; either may be integer.
        calibration: as for `build`, real values in the files' layout, by the input names of one of them.
        images: as for `build`.
        samples: as for `build`.
        report: an .html file to write, which shows where the second file errs.
        display: shows the stages while they run; by default notebooks do, and nothing elsewhere.

    Raises:
        InputError: a file or the samples cannot be used, or the files' inputs and outputs do not correspond.
    """
    from edgeqwt.repair import is_integer
    from edgeqwt.report.files import write_comparison
    from edgeqwt.report.folder import check_file
    from edgeqwt.runtime.foreign import read_foreign
    from edgeqwt.verify.compare import compare_graphs

    if report is not None:
        check_file(Path(report))
    stages = Stages(display)
    graph, judged = read_foreign(Path(first)), read_foreign(Path(second))
    notes = (SWAPPED,) if is_integer(graph) and not is_integer(judged) else ()
    data = limited(open_samples(calibration, images=images), samples)
    own, other, given = _input_names(graph), _input_names(judged), set(data.first())
    specs = _real_inputs(graph, other if len(other) == len(own) and given == set(other) else own)
    checked = validated(data, specs)
    graph, judged = (_closed(g, specs, checked.first()) for g in (graph, judged))
    (graph, said), (judged, more) = _as_meant(first, graph), _as_meant(second, judged)
    with stages("compare") as advance:
        values = ({t: s[spec.name] for t, spec in zip(graph.inputs, specs, strict=True)} for s in checked)
        found = replace(
            compare_graphs(graph, judged, counted(values, advance, checked.count)), notes=(*notes, *said, *more)
        )
    if report is not None:
        write_comparison(found, judged, str(first), str(second), calibration, Path(report))
    return found


def evaluate(
    files: Sequence[str | Path],
    *,
    data: Source,
    labels: str | Path | None = None,
    images: ImageOptions | None = None,
    samples: int | None = None,
    display: Display = automatic,
) -> Scores:
    """Scores .tflite files of one network side by side, float or integer, of any tool.

    Args:
        files: the first is what the others are compared with, usually float.
        data: test samples as for `build`, real values by the first file's input names, with `labels` or without.
        labels: a .npy or .npz file with one row of integers for each sample, where `data` has none.
        images: as for `build`.
        samples: use at most so many.
        display: shows the stages while they run; by default notebooks do, and nothing elsewhere.

    Raises:
        InputError: a file or the data cannot be used, or the files' inputs and outputs do not correspond.
    """
    from edgeqwt.calibration.labels import labelled
    from edgeqwt.graph.interface import check_interfaces
    from edgeqwt.runtime.foreign import read_foreign
    from edgeqwt.verify.evaluate import with_extras
    from edgeqwt.verify.scoring import score

    if not files:
        raise InputError("there is no file to score", "Name one or more .tflite files.")
    if len({*map(str, files)}) < len(files):
        raise InputError("a file is named twice", "Name each once.")
    graphs = {str(path): read_foreign(Path(path)) for path in files}
    first = next(iter(graphs.values()))
    given = limited(open_samples(data, images=images), samples)
    given = given if labels is None else labelled(given, Path(labels))
    names = _input_names(first)
    specs = _real_inputs(first, names)
    checked = with_extras(given, specs)
    graphs = {path: _closed(graph, specs, checked.first()) for path, graph in graphs.items()}
    first = next(iter(graphs.values()))
    for graph in graphs.values():
        check_interfaces(graph, first, "Name files of one model.")
    with Stages(display)("evaluate") as advance:
        meant = {path: _as_meant(path, graph) for path, graph in graphs.items()}
        found = score({path: graph for path, (graph, _) in meant.items()}, names, checked.shown(advance))
        return replace(found, notes=tuple(sentence for _, notes in meant.values() for sentence in notes))


def inspect(path: str | Path) -> Description:
    """What is in a TFLite file.

    Raises:
        InputError: it is no readable TFLite file.
    """
    from edgeqwt.graph import flatbuffer
    from edgeqwt.report.inspect import describe

    return describe(flatbuffer.read(Path(path)), Path(path).stat().st_size)


def export(path: str | Path, output: str | Path, to: str = "onnx-qdq") -> None:
    """Writes a .tflite file in another format, with the same integers, scales, names and interface.

    Args:
        path: of the file, as a rule an integer one.
        output: the file to write.
        to: "onnx-qdq": ONNX with QuantizeLinear and DequantizeLinear around every op, opset 21.

    Raises:
        InputError: it is no readable .tflite file, there is no such format, or the output cannot be written.
        UnsupportedError: an op has no form there; it is named.
        MissingPackageError: onnx is not installed.
    """
    from edgeqwt.benchmark.describe import read_model
    from edgeqwt.onnx_qdq.emitters import to_onnx
    from edgeqwt.onnx_qdq.writer import TARGET
    from edgeqwt.report.folder import check_file

    if to != TARGET:
        raise InputError(f"there is no format {to!r}", f"There is {TARGET}.")
    check_file(Path(output))
    keep_apart(Path(output), [path])
    write_whole(Path(output), to_onnx(read_model(Path(path))[1]))


def limited(samples: Samples, limit: int | None) -> Samples:
    """At most so many of the samples.

    Raises:
        InputError: fewer than one is asked for.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} samples were asked for", "Use at least one.")
    return samples if limit is None else samples.head(limit)


def _as_meant(path: str | Path, graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """What is run of a file here, and a sentence where XNNPACK computes layers of it wrongly.

    A float file is what others are held against: such layers are written so that they are computed as they are meant.
    An integer one stays as phones run it.
    """
    from edgeqwt.repair import is_integer
    from edgeqwt.runtime.misread import misread, read_rightly

    found = misread(graph)
    if not found:
        return graph, ()
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    sentence = (
        f"XNNPACK, as phones have it, computes {graph.describe(found[0])}{more} of {path} wrongly (padding SAME, "
        "kernels smaller than strides)"
    )
    if is_integer(graph):
        return graph, (f"{sentence}. {MENDED}",)
    return read_rightly(graph)[0], (f"{sentence}; here it is run as it is meant.",)


def _closed(graph: Graph, specs: Sequence[InputSpec], sample: Sample) -> Graph:
    """The graph with the shapes that it has on samples, where the file leaves some open; `specs` in its order."""
    from edgeqwt.converters.closed import closed, open_shape
    from edgeqwt.runtime.foreign import survived

    tensors = [graph.tensors[t] for t in graph.inputs]
    if len(tensors) != len(specs) or all(None not in open_shape(tensor) for tensor in tensors):
        return graph
    own = [replace(spec, shape=open_shape(tensor)) for spec, tensor in zip(specs, tensors, strict=True)]
    # Shapes follow from shapes: integers of any value do.
    values = {
        spec.name: sample[spec.name] if tensor.quantization is None else np.zeros(sample[spec.name].shape, tensor.dtype)
        for spec, tensor in zip(specs, tensors, strict=True)
    }
    return survived(closed(graph, own, values)[0], "the model")  # so far it was only loaded


def _input_names(graph: Graph) -> tuple[str, ...]:
    from edgeqwt.converters.from_tflite.source import bindings

    return tuple(binding.spec.name for binding in bindings(graph)[0])


def _real_inputs(graph: Graph, names: Sequence[str]) -> tuple[InputSpec, ...]:
    """What a graph's inputs take as real values: float32 where the file has quantized integers."""
    from edgeqwt.converters.closed import open_shape

    tensors = [graph.tensors[t] for t in graph.inputs]
    return tuple(
        InputSpec(name, open_shape(tensor), tensor.dtype if tensor.quantization is None else "float32")
        for name, tensor in zip(names, tensors, strict=True)
    )
