"""A server for one page: the files that it was given and no others, and one address that takes a result.

Paths are looked up in a table, so that no request reaches the file system. Answers forbid the page to load anything
from elsewhere (Content-Security-Policy) and open the precise clock and threads to it (cross-origin isolation).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeqwt.errors import InputError

Files = Mapping[str, bytes | Path]
"""Contents by path below the page's address; "index.html" is the page."""

TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".wasm": "application/wasm", ".svg": "image/svg+xml",
}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
RESULT = "result"
"""The path that a page posts its result to, as JSON."""
LARGEST_RESULT = 1 << 20  # bytes


class Server:
    """Serves files in threads of its own while it is open.

    Args:
        files: what there is.
        host: the address to listen at.
        port: 0: any that is free.
        received: called with each result that a page sends, a JSON object; None: results are refused.

    Raises:
        InputError: it cannot listen there.
    """

    def __init__(
        self, files: Files, host: str = "127.0.0.1", port: int = 0, received: Callable[[Any], None] | None = None
    ) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), partial(_Handler, files, received))
        except (OSError, OverflowError) as error:
            hint = "Choose another --port, or an address of this computer for --host."
            raise InputError(f"nothing can be served at {host}, port {port}: {error}", hint) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self.host, self.port = host, int(self._server.server_address[1])

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgeqwt", ""
    timeout = 60

    def __init__(self, files: Files, received: Callable[[Any], None] | None, *rest: Any) -> None:
        self._files, self._received = files, received
        super().__init__(*rest)

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        content = self._files.get(name)
        if content is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        try:
            data = content if isinstance(content, bytes) else content.read_bytes()
        except OSError:  # the build's folder has been replaced meanwhile
            self._answer(HTTPStatus.GONE)
            return
        self._answer(HTTPStatus.OK, data, TYPES.get(Path(name).suffix, "application/octet-stream"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.close_connection = True  # what is not read of a refused body is no next request
        length = self.headers.get("Content-Length", "")
        if self._received is None or self.path != f"/{RESULT}" or not length.isdecimal():
            self._answer(HTTPStatus.NOT_FOUND)
            return
        # A page of another site can make a browser post here, but not with this type, unless it is let.
        if self.headers.get("Content-Type") != "application/json":
            self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        if int(length) > LARGEST_RESULT:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            self._received(json.loads(self.rfile.read(int(length))))
        except (ValueError, RecursionError):
            self._answer(HTTPStatus.BAD_REQUEST)
        else:
            self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus, data: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: requests are no news for whoever runs the demo."""
