"""`edgeqwt demo`."""

from __future__ import annotations

import socket
import sys
import threading
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgeqwt
from edgeqwt.commands import panels
from edgeqwt.commands.app import command
from edgeqwt.commands.options import Json
from edgeqwt.disk import write_whole
from edgeqwt.errors import printable
from edgeqwt.output import console, print_json

if TYPE_CHECKING:
    from rich.console import Console

EVERYWHERE = "0.0.0.0"


@command(
    "edgeqwt demo out/ --labels classes.txt", "edgeqwt demo out/ --host 0.0.0.0", "edgeqwt demo out/ --bundle page/"
)
def demo(
    folder: Annotated[Path, typer.Argument(help="What `edgeqwt build --output` wrote.", metavar="FOLDER")],
    host: Annotated[
        str,
        panels.run(
            help="Address to listen at; 0.0.0.0: phones on the same network can open the page.", metavar="ADDRESS"
        ),
    ] = "127.0.0.1",
    port: Annotated[int, panels.run(help="0: any that is free.", min=0, max=65535, metavar="N")] = 0,
    bundle: Annotated[
        Path | None,
        panels.output(help="Write the page into this new folder, to be hosted anywhere, instead.", metavar="FOLDER"),
    ] = None,
    android: Annotated[
        Path | None,
        panels.output(help="Write the assets of examples/android into this new folder, instead.", metavar="FOLDER"),
    ] = None,
    labels: Annotated[
        Path | None, panels.data(help="Names of the classes, a text with one a line.", metavar="FILE")
    ] = None,
    pixels: Annotated[
        list[str] | None,
        panels.data(help="How training normalized pixels, as for build: 'mean=… std=…'.", metavar="VALUES"),
    ] = None,
    sample_rate: Annotated[int, panels.data(help="In Hz, of a model of waveforms.", min=1000, metavar="HZ")] = 16000,
    result: Annotated[
        Path | None, panels.output(help="Write the result that a page sends to this file.", metavar="FILE.json")
    ] = None,
    json: Json = False,
) -> None:
    """Show a build in a browser, its files side by side.

    These are the float, the plain and the compensated one.
    Runs until Ctrl-C. Pages run the models themselves (LiteRT.js); nothing is fetched from elsewhere.
    """
    from edgeqwt.interface.options import ALL, parse
    from edgeqwt.report.folder import check_file
    from edgeqwt.web.page import PageOptions, read_labels

    if result is not None:
        check_file(result)
    names = () if labels is None else read_labels(labels)
    options = PageOptions(names, parse(pixels=pixels or ()).pixels.get(ALL), sample_rate)
    out = None if json else console()  # made here: the server's threads know nothing of --quiet
    for made, write, what_next in (
        (android, edgeqwt.demo_assets, "build the app with `gradle installDebug`"),
        (bundle, edgeqwt.bundle_demo, "host it anywhere; https opens camera and microphone"),
    ):
        if made is not None:
            write(folder, made, options)
            if out is None:
                print_json({"folder": str(made)})
            else:
                out.print(f"{made} is ready: {what_next}.", soft_wrap=True)
            return
    received = partial(_keep, result, out)
    with edgeqwt.serve_demo(folder, options, host=host, port=port, received=received) as server:
        address = f"http://{_address(host)}:{server.port}/"
        if out is None:
            print_json({"address": address})
            sys.stdout.flush()  # whoever reads it in a pipe waits for it
        else:
            _show(out, address)
        threading.Event().wait()


def _keep(path: Path | None, out: Console | None, found: Any) -> None:
    """Shows a page's result, and writes it down where it is wanted.

    Raises:
        ValueError: it is not such a result.
    """
    if not isinstance(found, dict) or found.get("schema") != "edgeqwt.demo.result":
        raise ValueError
    if out:
        for model in found.get("models", []):
            line = f"{model.get('name')}: {model.get('min')} ms at least, {model.get('accelerator')}"
            out.print(printable(line), markup=False)
        out.print(printable(f"on {found.get('agent')}"), markup=False, soft_wrap=True)
    if path is not None:
        write_whole(path, (dumps(found, indent=2) + "\n").encode())


def _address(host: str) -> str:
    """What other devices call this computer."""
    if host != EVERYWHERE:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation; nothing is sent by connecting
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _show(out: Console, address: str) -> None:
    out.print(f"Open {address} (Ctrl-C ends)", soft_wrap=True)
    if "127.0.0.1" in address:
        out.print("Only this computer can open it; with --host 0.0.0.0 phones on its network can.", soft_wrap=True)
        return
    try:
        import segno
    except ImportError:
        out.print("With `pip install 'edgeqwt[demo]'` there is a QR code here.", soft_wrap=True)
        return
    segno.make(address, error="l").terminal(out=out.file, compact=True)
