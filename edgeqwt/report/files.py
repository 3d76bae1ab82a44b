"""What builds, repairs and comparisons leave on the disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.disk import whole_file, write_whole
from edgeqwt.errors import EdgeqwtError, QualityError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.invocation import asked
from edgeqwt.report.details import SCHEMA, VERSION, Details, hashes, written
from edgeqwt.report.folder import check_file, unused, within_work
from edgeqwt.report.html import page_html
from edgeqwt.report.manifest import DETAILS, EXPLORER, FLOAT_MODEL, LOG, MODEL, PACKAGE, PAGE, PLAIN_MODEL, REPORT
from edgeqwt.report.page import Page
from edgeqwt.report.terminal import time_sentence

if TYPE_CHECKING:
    from edgeqwt.calibration.sources import Source
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.repair import CompensationResult
    from edgeqwt.verify.compare import Comparison

HTML, REFUSED = ".report.html", ".refused.html"


def write_build(result: BuildResult, folder: Path) -> None:
    """Writes the int8 model, the float model that it was made from, the report and the conversion's log.

    Beside them, to be compared with: the file of plain post-training quantization, where the build kept another.

    Args:
        result: of the build.
        folder: exists and is empty but for the target's package.
    """
    from edgeqwt.report.document import document
    from edgeqwt.report.model_explorer import write_node_data
    from edgeqwt.report.pages import build_page, npu_summary

    flatbuffer.write(result.file, folder / MODEL)
    flatbuffer.write(result.prepared.graph, folder / FLOAT_MODEL)
    first = next(iter(result.variants))  # the plainest
    if first != result.choice.name:
        flatbuffer.write(result.variants[first], folder / PLAIN_MODEL)
    if result.model.log is not None and result.model.log.exists():
        shutil.copyfile(result.model.log, folder / LOG)
    text = json.dumps(document(result), indent=2, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")
    page = build_page(result, tuple(_origin(result, folder)), npu_summary(folder / PACKAGE))
    (folder / DETAILS).write_text(written(details(page)), encoding="utf-8")
    (folder / PAGE).write_text(page_html(page), encoding="utf-8")
    write_node_data(page, result.graph.name, folder / EXPLORER)


@contextmanager
def page_where_refused(output: Path, model: str) -> Iterator[None]:
    """Writes a page beside a build's output folder where the block stops for quality, and names it in the hint.

    The folder itself stays as it was. Where the block ends well, the page of an earlier one goes. Within another
    output's work folder, which goes with the error, nothing is written: what makes that folder has a block of its own.

    Args:
        output: the build's folder; `out` gets `out.refused.html`.
        model: the source, as the user names it.

    Raises:
        QualityError: that of the block.
    """
    from edgeqwt.report.pages import NOT_WRITTEN, refused_page

    path = output.parent / f"{output.name}{REFUSED}"  # "." and "/", which the block refuses, have no name
    try:
        yield
        with suppress(OSError, ValueError):
            if path.is_file() and NOT_WRITTEN in path.read_text("utf-8"):
                path.unlink()
    except QualityError as error:
        if error.refused is not None and not within_work(output):
            # What stopped the build is to be read, not that a page cannot be there.
            with suppress(EdgeqwtError, OSError):
                check_file(path)
                _write(refused_page(error.refused, model, tuple(_files({"model": model}))), path)
                error.hint = f"{error.hint} Open {path}: where the error is born, op by op."
        raise


def page_beside(path: Path) -> Path:
    """Where the report of a repaired file goes."""
    return path.with_suffix(HTML)


def write_repaired(
    result: CompensationResult, content: bytes, model: Path, reference: str, data: Source, output: Path
) -> None:
    """Writes a repaired file and the report beside it: both, or none where one cannot be written.

    Args:
        result: of the repair.
        content: the repaired file.
        model: the file that was repaired.
        reference: the float file, as the user names it.
        data: what it was repaired on.
        output: where the file goes.

    Raises:
        InputError: one of them cannot be written.
    """
    from edgeqwt.report.pages import compensation_page

    named = {"file": str(model), "float file": reference}
    origin = (*_files(named, ("written", f"{output}\nSHA-256 {hashlib.sha256(content).hexdigest()}")),)
    anew = ["edgeqwt", "build", reference, "-c", _named(data), "-o", unused("out")]
    page = page_html(compensation_page(result, str(model), origin, anew)).encode()
    with whole_file(page_beside(output)) as beside, whole_file(output) as file:
        for part, whole in ((file, content), (beside, page)):
            part.write(whole)
            part.flush()


def write_comparison(found: Comparison, graph: Graph, first: str, second: str, data: Source, path: Path) -> None:
    """Writes the report of a comparison on some data; `graph` is the second file's.

    Raises:
        InputError: it cannot be written.
    """
    from edgeqwt.report.pages import comparison_page

    named = {"compared with": first, "judged": second}
    _write(comparison_page(found, graph, first, second, tuple(_files(named)), _named(data)), path)


def _named(data: Source) -> str:
    """Samples as a command names them."""
    return str(data) if isinstance(data, str | Path) else "DATA"


def details(page: Page) -> Details:
    """What of a page is not in report.json."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "series": list(page.series),
        "memory": page.memory,
        "origin": list(page.origin),
        "samples": list(page.samples),
        "ops": list(page.ops),
    }


def _write(page: Page, path: Path) -> None:
    write_whole(path, page_html(page).encode())


def _files(named: Mapping[str, str], *more: tuple[str, str]) -> Iterator[tuple[str, str]]:
    yield from _command()
    found = hashes(named.values())
    for what, name in named.items():
        yield what, name + (f"\nSHA-256 {found[name]}" if name in found else "")
    yield from more
    yield from _versions({})


def _origin(result: BuildResult, folder: Path) -> Iterator[tuple[str, str]]:
    """What a build was made of, and how it is made again."""
    sources = result.sources
    yield from _command()
    named = {"model": sources.model, "calibration": sources.calibration, "evaluation": sources.evaluation}
    found = hashes(named.values())
    for what, name in named.items():
        if name is not None:
            yield what, name + (f"\nSHA-256 {found[name]}" if name in found else "")
    if sources.metric is not None:
        yield "metric", sources.metric
    yield "target", f"{result.target.name}: {result.target.title}"
    yield "recipe", f"{result.recipe.name}: {' → '.join(t.name for t in result.recipe.techniques)}"
    if result.model.converter:
        yield "converter", result.model.converter
    files = {str(folder / name): name for name in (MODEL, FLOAT_MODEL)}
    for path, digest in hashes(files).items():
        yield files[path], f"SHA-256 {digest}"
    yield from _versions(result.versions)
    yield "time", time_sentence(result)


def _command() -> Iterator[tuple[str, str]]:
    if asked():
        yield "made again by", asked()


def _versions(known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    from edgeqwt.pipeline import versions

    yield "versions", ", ".join(f"{name} {version}" for name, version in (known or versions()).items())
