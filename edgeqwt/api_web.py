"""The part of the Python API that shows a build in browsers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeqwt.web.page import PageOptions
    from edgeqwt.web.server import Files, Server


def serve_demo(
    folder: str | Path,
    options: PageOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    received: Callable[[Any], None] | None = None,
) -> Server:
    """A page that runs what a build made in any browser: float, plain and compensated side by side.

    Use it in a `with` statement; it serves from there to the end, at `server.host` and `server.port`.

    Args:
        folder: a build's output.
        options: labels, pixels, sample rate.
        host: the address to listen at; "0.0.0.0": everybody on the network can open the page.
        port: 0: any that is free.
        received: called with each result that a page sends, a JSON object.

    Raises:
        InputError: no build wrote the folder, or nothing can be served at that address.
        ToolError: LiteRT.js is not installed.
    """
    from edgeqwt.converters.tools import tools_folder
    from edgeqwt.web.litertjs import required
    from edgeqwt.web.page import PageOptions, demo_files
    from edgeqwt.web.server import Server

    files = demo_files(Path(folder), required(tools_folder()), options or PageOptions(), received is not None)
    return Server(files, host, port, received)


def bundle_demo(folder: str | Path, output: str | Path, options: PageOptions | None = None) -> None:
    """Writes the demo's page into a folder that any web server can host; see `serve_demo`.

    Raises:
        InputError: no build wrote the folder; the output holds what edgeqwt did not write, or cannot be
            written.
        ToolError: LiteRT.js is not installed.
    """
    from edgeqwt.converters.tools import tools_folder
    from edgeqwt.web.litertjs import required
    from edgeqwt.web.page import PageOptions, demo_files

    _write(demo_files(Path(folder), required(tools_folder()), options or PageOptions(), False), Path(output))


def demo_assets(folder: str | Path, output: str | Path, options: PageOptions | None = None) -> None:
    """Writes what the Android app in `examples/android` shows into its folder of assets.

    Args:
        folder: a build's output.
        output: `app/src/main/assets` of the app.
        options: labels and pixels.

    Raises:
        InputError: no build wrote the folder; LiteRT's API for Android cannot feed such a file; the output holds
            what edgeqwt did not write, or cannot be written.
    """
    from edgeqwt.web.page import PageOptions, app_files

    _write(app_files(Path(folder), options or PageOptions()), Path(output))


def _write(files: Files, target: Path) -> None:
    """Writes a folder whole or not at all; what is there is replaced where edgeqwt wrote it and nobody edited it."""
    from edgeqwt.disk import cannot_write
    from edgeqwt.report.folder import whole_folder
    from edgeqwt.web.page import write_bundle

    with whole_folder(target) as folder:
        try:
            write_bundle(files, folder)
        except OSError as error:
            raise cannot_write(target, error) from None
