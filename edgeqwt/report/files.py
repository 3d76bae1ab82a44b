"""What a build leaves in its output folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgeqwt.graph import flatbuffer
from edgeqwt.pipeline import BuildResult
from edgeqwt.report.document import document
from edgeqwt.report.folder import FLOAT_MODEL, LOG, MODEL, REPORT


def write_build(result: BuildResult, folder: Path) -> None:
    """Writes the int8 model, the float model that it was made from, the report and the conversion's log.

    Args:
        result: of the build.
        folder: exists and is empty.
    """
    flatbuffer.write(result.graph, folder / MODEL)
    flatbuffer.write(result.prepared.graph, folder / FLOAT_MODEL)
    if result.model.log is not None and result.model.log.exists():
        shutil.copyfile(result.model.log, folder / LOG)
    text = json.dumps(document(result), indent=2, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")
