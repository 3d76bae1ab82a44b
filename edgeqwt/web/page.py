"""The demo's page: what a build's folder holds, as files for a browser.

LiteRT.js takes no integers at its borders, so that an integer file gets QUANTIZE and DEQUANTIZE ops there
(`lowering.borders`): two more ops than the file on the device has, and exactly its integers between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.options import Pixels
from edgeqwt.lowering.borders import with_borders
from edgeqwt.regular_files import json_object, regular
from edgeqwt.report.manifest import FLOAT_MODEL, MODEL, PACKAGE, PLAIN_MODEL, REPORT
from edgeqwt.runtime.boundary import described
from edgeqwt.web.litertjs import LiteRtJs
from edgeqwt.web.server import Files

STATIC = Path(__file__).with_name("static")
SCHEMA, VERSION = "edgeqwt.demo", 1
LARGEST_LABELS = 1 << 20  # bytes
FILES = {"float": FLOAT_MODEL, "plain": PLAIN_MODEL, "compensated": MODEL}
"""What is shown of a build's folder, in this order; a build that keeps plain quantization has no second one."""
APP_TYPES = ("float32", "int8", "uint8", "int32")
"""What TensorBuffer of LiteRT's Kotlin API (2.3.0) reads and writes; uint8 as int8's bytes."""
NPU = "npu.json"
"""In the package of a target whose NPU a vendor's plugin compiles for: which file is for which chip."""


@dataclass(frozen=True)
class PageOptions:
    """What the page cannot know from the files.

    Attributes:
        labels: names of the classes, in the order of the output's values; empty: their numbers.
        pixels: how a pixel becomes what the model takes; None: the file takes the pixel itself, if its package says
            so, else pixel / 255.
        sample_rate: in Hz, of a model of waveforms.
    """

    labels: tuple[str, ...] = ()
    pixels: Pixels | None = None
    sample_rate: int = 16000


def demo_files(folder: Path, runtime: LiteRtJs, options: PageOptions, takes_results: bool) -> Files:
    """The page for what a build left in a folder, by path.

    Args:
        folder: a build's output.
        runtime: the page's copy of it.
        options: what the files do not say.
        takes_results: whether there will be somebody to send them to.

    Raises:
        InputError: no build left anything there, or its files cannot be read.
        ToolError: LiteRT.js is laid out in an unknown way.
    """
    graphs = _graphs(folder)
    files: dict[str, bytes | Path] = {_model_file(name): for_browser(graph) for name, graph in graphs.items()}
    return {**_described(folder, graphs, files, options, takes_results), **page_files("demo", runtime)}


def app_files(folder: Path, options: PageOptions) -> Files:
    """The assets of the Android app in `examples/android`, by path: the build's files as they are, and demo.json.

    The file that the package has for a chip's NPU is among them.

    Args:
        folder: a build's output.
        options: what the files do not say.

    Raises:
        InputError: no build left anything there, its files cannot be read, the package is that of another build, or
            LiteRT's API for Android has no call that feeds an input or reads an output of their type.
    """
    graphs = _graphs(folder)
    for name, graph in graphs.items():
        for tensor in (graph.tensors[t] for t in (*graph.inputs, *graph.outputs)):
            if tensor.dtype not in APP_TYPES:
                hint = (
                    f"LiteRT's API for Android takes {', '.join(APP_TYPES)}: build with --input or --output-type float."
                )
                raise InputError(f"{tensor.name} of {FILES[name]} is of {tensor.dtype}", hint)
    models: dict[str, bytes | Path] = {_model_file(name): folder / FILES[name] for name in graphs}
    return _described(folder, graphs, models, options, False, _compiled(folder, models))


def _compiled(folder: Path, models: dict[str, bytes | Path]) -> dict[str, str] | None:
    """The package's file for an NPU and its chip, for demo.json; the file is added to the models."""
    package = folder / PACKAGE
    facts = json_object(package / NPU)
    name, soc = facts.get("compiled"), facts.get("soc")
    if not isinstance(name, str) or not isinstance(soc, str):
        return None
    again = "Build it again: it is of this build no more."
    for needed in (name, MODEL):
        if Path(needed).name != needed or not (package / needed).is_file():
            raise InputError(f"{package} has no file {needed!r}, which its {NPU} names", again)
    if (package / MODEL).read_bytes() != (folder / MODEL).read_bytes():
        raise InputError(f"{package / name} was compiled from another model than {folder / MODEL}", again)
    models[f"models/{name}"] = package / name
    return {"file": f"models/{name}", "soc": soc}


def _graphs(folder: Path) -> dict[str, Graph]:
    """The files that are shown side by side; last the one that the build is for."""
    if not (folder / MODEL).is_file() or not (folder / FLOAT_MODEL).is_file():
        hint = "Name the folder that `edgeqwt build MODEL --output FOLDER` wrote."
        raise InputError(f"{folder} holds no {MODEL} and {FLOAT_MODEL}", hint)
    return {name: flatbuffer.read(folder / file) for name, file in FILES.items() if (folder / file).is_file()}


def _model_file(name: str) -> str:
    return f"models/{name}.tflite"


def _described(
    folder: Path,
    graphs: Mapping[str, Graph],
    models: Mapping[str, bytes | Path],
    options: PageOptions,
    takes: bool,
    compiled: Mapping[str, str] | None = None,
) -> Files:
    """The models' files with the test vectors, and demo.json, which describes them; the compiled file is the last's."""
    files, last = dict(models), graphs["compensated"]
    described = {
        "schema": SCHEMA,
        "version": VERSION,
        "models": [
            {
                "name": name,
                "file": _model_file(name),
                "bytes": (folder / FILES[name]).stat().st_size,
                "ports": ports(graph),
                "compiled": compiled if graph is last else None,
            }
            for name, graph in graphs.items()
        ],
        "labels": list(options.labels),
        "input": _input(graphs["float"], folder, options),
        "vectors": _vectors(folder, files),
        "report": _report(folder),
        "takes_results": takes,
    }
    return {**files, "demo.json": json.dumps(described, allow_nan=False).encode()}


def page_files(name: str, runtime: LiteRtJs) -> dict[str, bytes | Path]:
    """The files of one of the two pages, demo or bench, with LiteRT.js."""
    found: dict[str, bytes | Path] = {f"litert/{path}": content for path, content in runtime.files().items()}
    for path in sorted(STATIC.iterdir()):
        if path.stem in (name, "runner"):
            found["index.html" if path.suffix == ".html" else path.name] = path
    return found


def for_browser(graph: Graph) -> bytes:
    """The file that LiteRT.js is given: with float inputs and outputs where the graph has integers."""
    return flatbuffer.to_bytes(with_borders(graph, {}, float_io=True))


def ports(graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs, with what makes integers of real values."""
    return {
        "inputs": [{"name": graph.tensors[t].name, **described(graph.tensors[t])} for t in graph.inputs],
        "outputs": [{"name": graph.tensors[t].name, **described(graph.tensors[t])} for t in graph.outputs],
    }


def _input(graph: Graph, folder: Path, options: PageOptions) -> dict[str, Any]:
    """What the page can feed the model with: a picture, a sound, or nothing but the test vectors."""
    shape = graph.tensors[graph.inputs[0]].shape
    single = len(graph.inputs) == 1
    if single and len(shape) == 4 and shape[0] == 1 and shape[3] in (1, 3):
        raw = _takes_pixels(folder)
        pixels = options.pixels or (Pixels(scale=1.0) if raw else Pixels())
        return {
            "kind": "image", "height": shape[1], "width": shape[2], "channels": shape[3],
            "scale": pixels.scale, "mean": list(pixels.mean), "std": list(pixels.std),
            "known": options.pixels is not None or raw,
        }  # fmt: skip
    long = [size for size in shape if size != 1]
    if single and len(long) == 1 and long[0] >= options.sample_rate // 10:
        return {"kind": "audio", "samples": long[0], "rate": options.sample_rate}
    return {"kind": "none"}


def _takes_pixels(folder: Path) -> bool:
    """Whether the package says that the file computes what training made of pixels itself."""
    source = json_object(folder / PACKAGE / "io.json").get("inputs")
    first = source[0] if isinstance(source, list) and source and isinstance(source[0], dict) else {}
    found = first.get("source")
    return isinstance(found, dict) and found.get("factor") is not None


def _vectors(folder: Path, files: dict[str, bytes | Path]) -> list[dict[str, list[str]]]:
    """The package's test vectors, which are added to the page's files."""
    vectors = json_object(folder / PACKAGE / "io.json").get("vectors")
    listed = vectors.get("files") if isinstance(vectors, dict) else None
    found = []
    for entry in listed if isinstance(listed, list) else []:
        names = {key: [str(name) for name in entry[key]] for key in ("inputs", "outputs")}
        if all(_is_vector(folder, name) for name in (*names["inputs"], *names["outputs"])):
            files.update({name: folder / PACKAGE / name for key in names for name in names[key]})
            found.append(names)
    return found


def _is_vector(folder: Path, name: str) -> bool:
    return Path(name).parent.as_posix() == "vectors" and (folder / PACKAGE / name).is_file()


def _report(folder: Path) -> dict[str, Any]:
    """What the page shows of the build's report: the model's name as it was given."""
    found = json_object(folder / REPORT).get("sources")
    name = found.get("model") if isinstance(found, dict) else None
    return {"model": name if isinstance(name, str) else ""}


def read_labels(path: Path) -> tuple[str, ...]:
    """Names of classes from a text, one a line.

    Raises:
        InputError: it cannot be read, or is no such text.
    """
    try:
        if regular(path).stat().st_size > LARGEST_LABELS:
            raise InputError(f"{path} has more than {LARGEST_LABELS} bytes", "Give a text with one class a line.")
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give a text in UTF-8 with one class a line.") from None


def write_bundle(files: Files, folder: Path) -> None:
    """Writes the page into a folder that any web server can host.

    Args:
        files: of the page.
        folder: exists and is empty.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
