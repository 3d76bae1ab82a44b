"""Search of the documentation site where its pages are opened from the disk; docs/javascripts/iframe-worker.js."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.web import chromium
from tests.browsers import needs_chromium

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "javascripts" / "iframe-worker.js"
WORKER = """
addEventListener("message", async (event) => {
  await importScripts("more/one.js", "more/two.js")
  postMessage(factor * event.data + summand)
})
"""
ASKED = """
new Promise((answer) => {
  const worker = new Worker("worker.js")
  worker.addEventListener("message", (event) => answer(event.data))
  worker.postMessage(3)
})
"""


@needs_chromium
def test_a_worker_answers_in_pages_from_the_disk(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f"<!doctype html><body><script>{SCRIPT.read_text()}</script>")
    (tmp_path / "worker.js").write_text(WORKER)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/one.js").write_text("globalThis.factor = 5")
    (tmp_path / "more/two.js").write_text("globalThis.summand = factor + 1")
    with chromium.browser() as shown:
        shown.open((tmp_path / "index.html").as_uri())
        shown.wait("document.readyState === 'complete'")
        assert shown.value("'IFrameWorker' in window")
        assert shown.value(ASKED) == 21
        assert not shown.problems
        assert all(address.startswith("file:") for address in shown.requests)
