"""Chromium without a window, driven over a pipe by its DevTools protocol (https://chromedevtools.github.io)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import ToolError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "EDGEQWT_CHROMIUM"
"""Environment variable: the browser's program."""
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--no-default-browser-check", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip
SECONDS = 60.0
LOGGED = ("INFO:", "WARNING:")
"""How lines of LiteRT's log begin, which WebAssembly writes to the console as errors whatever they say."""


def program() -> str | None:
    """The browser's path; None where there is none."""
    named = os.environ.get(VARIABLE)
    return shutil.which(named) if named else next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Page:
    """One page of the browser.

    Attributes:
        problems: errors that its console showed, and requests that failed, as they came.
        requests: the addresses that it asked for.
    """

    _send: Callable[[str, Mapping[str, Any]], Any]
    _pump: Callable[[float], None]
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Goes to an address."""
        self._send("Page.navigate", {"url": address})

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the window's size in CSS pixels, and whether the system is dark; below 600 it is a phone's."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", shape)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._send("Emulation.setEmulatedMedia", {"features": scheme})

    def value(self, script: str) -> Any:
        """What a script comes to, a promise awaited.

        Raises:
            ToolError: it throws.
        """
        wanted = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found = self._send("Runtime.evaluate", wanted)
        if "exceptionDetails" in found:
            thrown = found["exceptionDetails"].get("exception", {})
            raise ToolError("chromium", 1, str(thrown.get("description") or thrown.get("value")), "See the page.")
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = SECONDS) -> Any:
        """Waits until a script comes to something true, and returns that.

        Raises:
            ToolError: it does not within the time; what the page complained of is said.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.value(script)
            if found:
                return found
            self._pump(0.1)
        shown = "\n".join(self.problems)
        raise ToolError("chromium", 1, shown, f"The page did not get ready within {seconds:.0f} s.")

    def screenshot(self, path: Path) -> None:
        """Writes a PNG of the whole page."""
        found = self._send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(found["data"]))


class _Connection:
    """Messages with ids over two pipes, each ended by a zero byte."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._rest, self._count = reading, writing, b"", 0
        self.events = list[dict[str, Any]]()

    def call(self, method: str, values: Mapping[str, Any], session: str | None = None) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": dict(values)}
        os.write(self._writing, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for found in self._arrived(end - time.monotonic()):
                if found.get("id") != self._count:
                    self.events.append(found)
                elif "error" in found:
                    raise ToolError("chromium", 1, str(found["error"].get("message")), f"{method} failed.")
                else:
                    return found["result"]
        raise ToolError("chromium", 1, "", f"It did not answer {method} within {SECONDS:.0f} s.")

    def pump(self, seconds: float) -> None:
        self.events += self._arrived(seconds)

    def _arrived(self, seconds: float) -> list[dict[str, Any]]:
        if not select.select([self._reading], [], [], max(0.0, seconds))[0]:
            return []
        data = os.read(self._reading, 1 << 16)
        if not data:
            raise ToolError("chromium", None, "", "It ended by itself. Does it start without a window here?")
        *whole, self._rest = (self._rest + data).split(b"\0")
        return [json.loads(message) for message in whole]


@contextmanager
def browser(flags: Sequence[str] = ()) -> Iterator[Page]:
    """A page of a browser of its own, with a profile of its own; both are gone afterwards.

    Args:
        flags: for the program, besides FLAGS.

    Raises:
        ToolError: there is no Chromium, or it does not start.
    """
    path = program()
    if path is None:
        hint = f"Install Chromium (Debian: apt install chromium), or set {VARIABLE} to a browser like it."
        raise ToolError("chromium", None, "", hint)
    root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    with TemporaryFolder() as folder:
        command = [path, *FLAGS, *root, *flags, f"--user-data-dir={folder}", "about:blank"]
        with _process(command) as connection:
            yield _page(connection)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[_Connection]:
    """The browser, which reads its descriptor 3 and writes to its descriptor 4."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # Copies above 9: a pipe that lay at 3 or 4 itself would be overwritten before it is copied.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (theirs_in, theirs_out)]
    script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
    arguments = ["bash", "-c", script, "chromium", *map(str, high), *command]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        arguments, pass_fds=high, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    for descriptor in (theirs_in, theirs_out, *high):
        os.close(descriptor)
    connection = _Connection(ours_in, ours_out)
    try:
        yield connection
    finally:
        with suppress(ToolError, OSError):
            connection.call("Browser.close", {})
        os.close(ours_in)
        os.close(ours_out)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _page(connection: _Connection) -> Page:
    targets = connection.call("Target.getTargets", {})["targetInfos"]
    target = next(found["targetId"] for found in targets if found["type"] == "page")
    session = connection.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    def send(method: str, values: Mapping[str, Any]) -> Any:
        found = connection.call(method, values, session)
        note()
        return found

    def pump(seconds: float) -> None:
        connection.pump(seconds)
        note()

    def note() -> None:
        for event in connection.events:
            _noted(page, event.get("method", ""), event.get("params", {}))
        connection.events.clear()

    page = Page(send, pump)
    for domain in ("Page", "Runtime", "Log", "Network"):
        send(f"{domain}.enable", {})
    return page


def _noted(page: Page, event: str, values: Mapping[str, Any]) -> None:
    if event == "Network.requestWillBeSent":
        page.requests.append(values["request"]["url"])
    elif event == "Network.loadingFailed" and not values.get("canceled"):
        page.problems.append(f"a request failed: {values.get('errorText')}")
    elif event == "Runtime.exceptionThrown":
        details = values["exceptionDetails"]
        page.problems.append(details.get("exception", {}).get("description") or details.get("text", ""))
    elif event == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
        text = " ".join(str(a.get("value", a.get("description"))) for a in values["args"])
        if not text.startswith(LOGGED):
            page.problems.append(text)
    elif event == "Log.entryAdded" and values["entry"]["level"] == "error":
        page.problems.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
