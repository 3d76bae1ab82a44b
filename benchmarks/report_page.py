"""docs/report.webp, the README's picture: report.html of examples/digits at 4 bits, recipe fast, in Chromium."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

import edgeqwt
from edgeqwt.web import chromium

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "report.webp"
WIDTH, HEIGHT = 1080, 1000
END = "Math.ceil(document.querySelector('#born figcaption').getBoundingClientRect().bottom + scrollY)"
"""How much of the page is shown: down to the chart of errors."""
LARGEST = 150_000  # bytes


def main() -> None:
    """Takes the picture of a page, or of a build that it makes first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?", help="report.html of a build")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/report.webp")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = options.page or built(Path(folder))
        shot = Path(folder) / "page.png"
        with chromium.browser(["--hide-scrollbars"]) as browser:
            browser.size(WIDTH, HEIGHT)
            browser.open(page.resolve().as_uri())
            browser.wait("document.readyState === 'complete'")
            end = int(browser.value(END)) + 4
            browser.screenshot(shot)
        with Image.open(shot) as whole:
            part = whole.convert("RGB").crop((0, 0, WIDTH, end))
    found = io.BytesIO()
    part.save(found, "WEBP", quality=80, method=6)
    if len(found.getvalue()) > LARGEST:
        sys.exit(f"{len(found.getvalue()):,} bytes, more than {LARGEST:,}")
    options.output.write_bytes(found.getvalue())
    print(f"{options.output}: {part.width} x {part.height}, {len(found.getvalue()):,} bytes")


def built(folder: Path) -> Path:
    """The page of examples/digits with 4-bit weights, rounded to nearest: what compensation is for."""
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    model = importlib.import_module("model")
    data = {"calibration": model.calibration, "evaluation": model.evaluation}
    edgeqwt.build(model.create(), precision="w4a8", recipe="fast", output=folder / "digits-w4", **data)
    return folder / "digits-w4" / "report.html"


if __name__ == "__main__":
    main()
