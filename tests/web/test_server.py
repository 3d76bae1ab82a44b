"""The demo's server: what it was given and nothing else."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from edgeqwt.errors import InputError
from edgeqwt.web.server import LARGEST_RESULT, Server


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.request(
            method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret").write_text("no")
    with Server({"index.html": b"<p>", "litert/a.wasm": tmp_path / "a.wasm"}) as server:
        answer, body = ask(server, "GET", "/?x=1")
        assert (answer.status, body, answer.headers["Content-Type"]) == (200, b"<p>", "text/html; charset=utf-8")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        answer, body = ask(server, "GET", "/litert/a.wasm")
        assert (body, answer.headers["Content-Type"]) == (b"\0asm", "application/wasm")
        assert ask(server, "HEAD", "/")[1] == b""
        for path in (
            "/secret",
            "/../secret",
            "/litert/../../secret",
            "/%2e%2e/secret",
            f"/{tmp_path}/secret",
            "/litert",
        ):
            assert ask(server, "GET", path)[0].status == 404, path
        (tmp_path / "a.wasm").unlink()
        assert ask(server, "GET", "/litert/a.wasm")[0].status == 410


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/result", b'{"a": 1}', "application/json", 204),
        ("/result", b"{", "application/json", 400),
        ("/result", b"[" * 100_000, "application/json", 400),
        ("/result", b'{"a": 1}', "text/plain", 415),  # what a page of another site could send
        ("/result", b" " * (LARGEST_RESULT + 1), "application/json", 413),
        ("/other", b"{}", "application/json", 404),
    ],
)
def test_results(path: str, body: bytes, kind: str, status: int) -> None:
    found: list[Any] = []
    with Server({"index.html": b""}, received=found.append) as server:
        try:
            answer, _ = ask(server, "POST", path, body, Content_Type=kind)
        except ConnectionError:  # refused before all of it was read
            assert status == 413
        else:
            assert answer.status == status
    assert found == ([json.loads(body)] if status == 204 else [])


def test_nobody_takes_results() -> None:
    with Server({"index.html": b""}) as server:
        assert ask(server, "POST", "/result", b"{}", Content_Type="application/json")[0].status == 404


def test_an_address_in_use() -> None:
    with Server({}) as server, pytest.raises(InputError, match="nothing can be served"):
        Server({}, port=server.port)
