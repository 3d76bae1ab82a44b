"""The demo's page, and the page of `bench --on browser`, in the real browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import edgeqwt
from edgeqwt.benchmark.bench import Options
from edgeqwt.benchmark.host import HostSettings
from edgeqwt.converters.tools import tools_folder
from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.interface.options import Pixels, parse
from edgeqwt.web import chromium, litertjs
from edgeqwt.web.page import PageOptions, demo_files, read_labels
from tests.browsers import needs_chromium
from tests.small import graph, images

needs_litertjs = pytest.mark.skipif(
    litertjs.find(litertjs.located(tools_folder())) is None, reason=f"no LiteRT.js: {litertjs.how_to_get()}"
)
STRANGE = "<b>cat</b>"


def fake_litertjs(folder: Path) -> litertjs.LiteRtJs:
    """The layout of LiteRT.js without its contents."""
    core, loader = folder / "node_modules" / litertjs.CORE, folder / "node_modules" / litertjs.LOADER
    for path in (core / "dist", core / "wasm", loader / "dist"):
        path.mkdir(parents=True)
    (core / "package.json").write_text(json.dumps({"version": "1.2.3"}))
    (core / "dist" / "index.js").write_text(f"import {{ x }} {litertjs.IMPORT};")
    (core / "wasm" / "a.wasm").write_bytes(b"\0asm")
    (loader / "dist" / "index.js").write_text("export const x = 1;")
    found = litertjs.find(folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build leaves, of a small network of 8 x 8 pictures in colour."""
    folder = tmp_path_factory.mktemp("demo")
    flatbuffer.write(graph(), folder / "source.tflite")
    edgeqwt.build(
        folder / "source.tflite", calibration={"image": images(40)}, recipe="fast", precision="w4a8",
        output=folder / "out", min_quality=0.0,
    )  # fmt: skip
    return folder / "out"


def test_what_the_page_gets(built: Path, tmp_path: Path) -> None:
    runtime = fake_litertjs(tmp_path)
    files = demo_files(built, runtime, PageOptions((STRANGE,)), takes_results=True)
    described = json.loads(files["demo.json"])  # type: ignore[arg-type]
    assert [model["name"] for model in described["models"]] == ["float", "plain", "compensated"]
    assert described["models"][2]["bytes"] == (built / "model.tflite").stat().st_size
    assert described["input"]["kind"] == "image"
    assert not described["input"]["known"]
    assert described["labels"] == [STRANGE]
    assert described["takes_results"]
    for vector in described["vectors"]:
        assert set(vector["inputs"]) | set(vector["outputs"]) <= files.keys()
    assert files["litert/index.js"] == b'import { x } from "./loader.js";'
    assert "bench.js" not in files
    assert {"demo.js", "demo.css", "runner.js", "index.html"} <= files.keys()
    own = flatbuffer.from_bytes(files["models/compensated.tflite"])  # type: ignore[arg-type]
    assert all(own.tensors[t].is_float for t in (*own.inputs, *own.outputs))
    pixels = demo_files(built, runtime, PageOptions(pixels=Pixels((0.5,), (0.25,))), takes_results=False)
    assert json.loads(pixels["demo.json"])["input"]["std"] == [0.25]  # type: ignore[arg-type]


def test_what_is_missing(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = fake_litertjs(tmp_path / "js")
    with pytest.raises(InputError, match=r"holds no model\.tflite"):
        demo_files(tmp_path, runtime, PageOptions(), takes_results=False)
    (runtime.core / "dist" / "index.js").write_text("other")
    with pytest.raises(ToolError) as error:
        demo_files(built, runtime, PageOptions(), takes_results=False)
    assert "unknown here" in error.value.hint
    monkeypatch.setenv(litertjs.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ToolError) as error:
        edgeqwt.serve_demo(built)
    assert "edgeqwt tools install litertjs" in error.value.hint
    monkeypatch.setenv(chromium.VARIABLE, "no-such-browser")
    with pytest.raises(ToolError) as error, chromium.browser():
        pass
    assert "Install Chromium" in error.value.hint
    (tmp_path / "labels").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "labels")


def test_a_bundle(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_litertjs(tmp_path / "js")
    monkeypatch.setenv(litertjs.VARIABLE, str(tmp_path / "js"))
    edgeqwt.bundle_demo(built, tmp_path / "site")
    assert json.loads((tmp_path / "site" / "demo.json").read_text())["takes_results"] is False
    assert (tmp_path / "site" / "litert" / "wasm" / "a.wasm").read_bytes() == b"\0asm"
    edgeqwt.bundle_demo(built, tmp_path / "site")  # its own, so that it may be replaced
    (tmp_path / "site" / "mine.txt").write_text("")
    with pytest.raises(InputError, match=r"holds 'mine\.txt'"):
        edgeqwt.bundle_demo(built, tmp_path / "site")


def test_assets_of_the_android_app(tmp_path: Path, built: Path) -> None:
    edgeqwt.demo_assets(built, tmp_path / "assets", PageOptions((STRANGE,)))
    found = json.loads((tmp_path / "assets" / "demo.json").read_text())
    assert [model["name"] for model in found["models"]] == ["float", "plain", "compensated"]
    for model, file in zip(found["models"], ("float.tflite", "plain.tflite", "model.tflite"), strict=True):
        assert (tmp_path / "assets" / model["file"]).read_bytes() == (built / file).read_bytes()
    assert found["models"][2]["ports"]["inputs"][0]["dtype"] == "int8"
    for vector in found["vectors"]:
        assert all((tmp_path / "assets" / name).is_file() for name in (*vector["inputs"], *vector["outputs"]))


def test_the_file_of_an_npu_goes_into_the_android_app(tmp_path: Path, built: Path) -> None:
    out, assets = tmp_path / "out", tmp_path / "assets"
    shutil.copytree(built, out)
    facts = {"compiled": "model_SM8650.tflite", "soc": "SM8650"}
    (out / "package" / "npu.json").write_text(json.dumps(facts))
    (out / "package" / "model_SM8650.tflite").write_bytes(b"a program")
    edgeqwt.demo_assets(out, assets)
    models = json.loads((assets / "demo.json").read_text())["models"]
    expected = {"file": "models/model_SM8650.tflite", "soc": "SM8650"}
    assert [model["compiled"] for model in models] == [None, None, expected]
    assert (assets / expected["file"]).read_bytes() == b"a program"
    # Nothing was compiled where the vendor's compiler is not installed.
    (out / "package" / "npu.json").write_text(json.dumps(facts | {"compiled": None}))
    edgeqwt.demo_assets(out, assets)
    assert json.loads((assets / "demo.json").read_text())["models"][2]["compiled"] is None
    assert not (assets / expected["file"]).exists()
    # Neither a file from elsewhere nor the program of another model is taken.
    for name in ("../model.tflite", "none.tflite"):
        (out / "package" / "npu.json").write_text(json.dumps(facts | {"compiled": name}))
        with pytest.raises(InputError, match=r"which its npu\.json names"):
            edgeqwt.demo_assets(out, assets)
    (out / "package" / "npu.json").write_text(json.dumps(facts))
    (out / "model.tflite").write_bytes((built / "plain.tflite").read_bytes())
    with pytest.raises(InputError, match="compiled from another model"):
        edgeqwt.demo_assets(out, assets)


def test_what_the_android_app_cannot_feed(tmp_path: Path) -> None:
    flatbuffer.write(graph(), tmp_path / "source.tflite")
    calibration, out = {"image": images(8)}, tmp_path / "out"
    edgeqwt.build(
        tmp_path / "source.tflite", calibration=calibration, recipe="plain", output=out, accept=True,
        interface=parse(outputs=("int16",)),
    )  # fmt: skip
    with pytest.raises(InputError, match="is of int16") as error:
        edgeqwt.demo_assets(out, tmp_path / "assets")
    assert "--output-type float" in error.value.hint
    assert not (tmp_path / "assets").exists()


@pytest.mark.tool
@needs_litertjs
@needs_chromium
def test_the_demo_in_chromium(built: Path) -> None:
    results: list[dict[str, object]] = []
    options = PageOptions((STRANGE,) * 10)
    with edgeqwt.serve_demo(built, options, received=results.append) as server, chromium.browser() as page:
        page.size(390, 844, dark=True)
        page.open(f"http://127.0.0.1:{server.port}/")
        found = page.wait("window.result", 120)
        assert [model["name"] for model in found["models"]] == ["float", "plain", "compensated"]
        assert all(model["min"] > 0 for model in found["models"])
        assert found["vectors"]
        assert all(vector["largest"] <= 1 for vector in found["vectors"])
        assert page.value("document.querySelectorAll('.model').length") == 3
        assert page.value("document.querySelector('.answers .name').textContent") == STRANGE  # text, no markup
        assert page.value("document.documentElement.scrollWidth <= 390")
        page.value("document.getElementById('camera').click()")  # the browser's fake device
        page.wait("!document.getElementById('preview').hidden")
        page.value("document.getElementById('camera').click()")
        page.value("document.getElementById('send').click()")
        page.wait("document.getElementById('state').textContent.includes('has the result')")
        assert page.problems == []
        assert {url.partition("/")[0] for url in page.requests} <= {"http:", "blob:", "data:"}
        assert all(f"//127.0.0.1:{server.port}/" in url for url in page.requests if url.startswith("http:"))
    assert results[0]["schema"] == "edgeqwt.demo.result"


@pytest.mark.tool
@needs_litertjs
@needs_chromium
def test_bench_in_chromium(built: Path, tmp_path: Path) -> None:
    options = Options(HostSettings(runs=5, seconds=0.5))
    shutil.copy(built / "float.tflite", tmp_path / "float.tflite")
    integer, real = edgeqwt.bench([built / "model.tflite", tmp_path / "float.tflite"], "browser", options)
    assert integer.ok, integer.checks
    assert real.ok, real.checks
    assert 0 < integer.value("latency_min", "xnnpack") <= integer.value("latency_median", "xnnpack")
    assert integer.versions["LiteRT.js"]
    assert len(integer.checks) == 2
    assert len(real.checks) == 1
