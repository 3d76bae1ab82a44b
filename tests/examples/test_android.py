"""The Android app: its files fit together, its Kotlin compiles, its arithmetic is the package's.

Kotlin's compiler, Android's own declarations (API 23) and Android's org.json come from `scripts/kotlin.sh`; LiteRT's
package for Android is only declared (`android/litert.kt`). Nothing here runs on a device.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import edgeqwt
from edgeqwt.converters.tools import tools_folder
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.boundary import quantized, real
from edgeqwt.web.page import PageOptions
from tests.small import graph, images

APP = Path(__file__).parents[2] / "examples" / "android"
MAIN = APP / "app" / "src" / "main"
KOTLIN = MAIN / "kotlin" / "org" / "edgeqwt" / "demo"
DECLARED = Path(__file__).with_name("android")
TOOLS = Path(os.environ.get("EDGEQWT_KOTLIN") or tools_folder() / "kotlin")
ANDROID = "{http://schemas.android.com/apk/res/android}"
needs_kotlin = pytest.mark.skipif(
    not (TOOLS / "android.jar").is_file() or shutil.which("java") is None,
    reason="no Kotlin and declarations of Android: scripts/kotlin.sh",
)


def named(pattern: str) -> set[str]:
    """What the Kotlin sources name by a pattern."""
    return {name for path in KOTLIN.glob("*.kt") for name in re.findall(pattern, path.read_text())}


def test_resources_and_manifest_agree() -> None:
    manifest = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    activity = manifest.find("application/activity")
    assert activity is not None
    assert (KOTLIN / f"{activity.attrib[f'{ANDROID}name'].removeprefix('.')}.kt").is_file()
    asked = {element.attrib[f"{ANDROID}name"] for element in manifest.iter("uses-permission")}
    assert asked == {f"android.permission.{name}" for name in named(r"Manifest\.permission\.(\w+)")}
    files = [ElementTree.parse(path).getroot() for path in sorted((MAIN / "res").rglob("*.xml"))]
    defined = {("layout", path.stem) for path in (MAIN / "res" / "layout").glob("*.xml")}
    defined |= {("drawable", path.stem) for path in (MAIN / "res" / "drawable").glob("*.xml")}
    texts = [*files, manifest]
    defined |= {(element.tag, element.attrib["name"]) for root in files if root.tag == "resources" for element in root}
    attributes = [value for root in texts for element in root.iter() for value in element.attrib.values()]
    defined |= {("id", value.removeprefix("@+id/")) for value in attributes if value.startswith("@+id/")}
    values = [*attributes, *((element.text or "") for root in texts for element in root.iter())]
    used = {
        tuple(value[1:].split("/")) for value in values if re.fullmatch(r"@(string|color|drawable|style)/\w+", value)
    }
    used |= {tuple(name.split(".")) for name in named(r"\bR\.(\w+\.\w+)")}
    assert used <= defined
    unused = {name for name in defined - used if name[0] in ("id", "layout", "color", "string")}
    assert unused == set()


def test_the_build_names_what_the_catalog_has() -> None:
    catalog = tomllib.loads((APP / "gradle" / "libs.versions.toml").read_text())
    scripts = (APP / "build.gradle.kts").read_text() + (APP / "app" / "build.gradle.kts").read_text()
    entries = {f"libs.{name.replace('-', '.')}" for name in catalog["libraries"]}
    entries |= {f"libs.plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    assert set(re.findall(r"libs\.[a-z.]*[a-z]", scripts)) == entries
    used = {entry["version"]["ref"] for kind in ("libraries", "plugins") for entry in catalog[kind].values()}
    assert used == set(catalog["versions"])
    assert catalog["versions"]["litert"] in (DECLARED / "litert.kt").read_text()
    assert 'include(":app")' in (APP / "settings.gradle.kts").read_text()


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the app shows of a small network of 8 x 8 pictures."""
    folder = tmp_path_factory.mktemp("android")
    flatbuffer.write(graph(), folder / "source.tflite")
    edgeqwt.build(
        folder / "source.tflite", calibration={"image": images(16)}, recipe="plain", output=folder / "out", accept=True
    )
    package = folder / "out" / "package"
    (package / "npu.json").write_text(json.dumps({"compiled": "model_SM8650.tflite", "soc": "SM8650"}))
    (package / "model_SM8650.tflite").write_bytes(b"a program")
    edgeqwt.demo_assets(folder / "out", folder / "assets", PageOptions(("zero",)))
    return folder / "assets"


@pytest.mark.tool
@needs_kotlin
def test_the_app_compiles_and_computes_as_the_package_says(assets: Path, tmp_path: Path) -> None:
    classes = compiled(tmp_path)
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 3, 200), [0.0, 1e9, -1e9, 0.5, -0.5]]).astype(np.float32)
    (tmp_path / "values").write_text("\n".join(repr(float(value)) for value in values))
    jars = [classes, *sorted((TOOLS / "jars").glob("kotlin-stdlib*.jar")), TOOLS / "json.jar"]
    program = ("-cp", ":".join(map(str, jars)), "org.edgeqwt.demo.CheckKt")
    lines = run("java", *program, assets, tmp_path / "values").splitlines()
    found = json.loads((assets / "demo.json").read_text())
    files = [(model["name"], flatbuffer.read(assets / model["file"])) for model in found["models"]]
    expected = [line for name, own in files for line in of_model(name, own, values)]
    expected.append("pixels " + numbers(of_pixels(found["input"]).view(np.int32)))
    for vector in found["vectors"]:
        first = np.fromfile(assets / vector["outputs"][0], np.int8)
        other = 127 if first[0] < 0 else -128
        expected.append(f"vector 0 0 {len(first)} 1 {abs(other - int(first[0]))}")
    npu = "npu models/model_SM8650.tflite, SM8650: true, SM8650-AC: true, SM86: false, SM86501: false, SM8550: false"
    others = ["npu null"] * (len(files) - 1)
    assert lines == [*expected, *others, npu, "label zero | class 1"]


def compiled(folder: Path) -> Path:
    """The app's sources with Android's declarations and a generated R, warnings as errors; the classes' folder."""
    generated, classes = folder / "generated", folder / "classes"
    generated.mkdir()
    if aapt := shutil.which("aapt"):  # Debian's; it checks what resources hold, too
        text = (MAIN / "AndroidManifest.xml").read_text()
        (folder / "AndroidManifest.xml").write_text(text.replace("<manifest ", '<manifest package="org.edgeqwt.demo" '))
        arguments = ["-M", folder / "AndroidManifest.xml", "-S", MAIN / "res", "-I", TOOLS / "android.jar"]
        run(aapt, "package", "-f", "-m", "-J", generated, *arguments)
    else:
        (generated / "R.java").write_text(numbered(named(r"\bR\.(\w+\.\w+)")))
    standard = next(iter(sorted((TOOLS / "jars").glob("kotlin-stdlib*.jar"))))
    run(
        "java", "-cp", f"{TOOLS / 'jars'}/*", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect",
        "-Werror", "-cp", f"{TOOLS / 'android.jar'}:{standard}", "-d", classes, KOTLIN, DECLARED, generated,
    )  # fmt: skip
    return classes


def numbered(names: set[str]) -> str:
    """A class R for names like "id.state"."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(names):
        kind, _, field = name.partition(".")
        kinds.setdefault(kind, []).append(f"public static final int {field} = {len(kinds)};")
    inner = [f"public static final class {kind} {{ {' '.join(fields)} }}" for kind, fields in kinds.items()]
    return f"package org.edgeqwt.demo; public final class R {{ {' '.join(inner)} }}"


def run(*command: object) -> str:
    """Runs a program; its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def of_model(name: str, own: Graph, values: np.ndarray) -> list[str]:
    """What the app has to print for a file's inputs and outputs."""
    lines = []
    for tensor in (own.tensors[t] for t in (*own.inputs, *own.outputs)):
        taken = np.resize(values, tensor.shape)
        integers = taken if tensor.quantization is None else quantized(taken, tensor.quantization, tensor.dtype)
        reals = taken if tensor.quantization is None else real(integers, tensor.quantization)
        head = f"{name} {tensor.dtype} "
        lines.append(f"encode {head}" + numbers(np.frombuffer(integers.tobytes(), np.int8)))
        lines.append(f"decode {head}" + numbers(reals.view(np.int32)))
    return lines


def of_pixels(described: dict[str, object]) -> np.ndarray:
    """Values of the test's pixels, in float32 as the app computes them."""
    count = int(str(described["height"])) * int(str(described["width"]))
    packed = (np.arange(count, dtype=np.int64) * 2654435) & 0xFFFFFF
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.float32)
    mean, std = (np.asarray(described[key], np.float32) for key in ("mean", "std"))
    taken: np.ndarray = (colours * np.float32(described["scale"]) - mean) / std  # type: ignore[arg-type]
    return taken.astype(np.float32)


def numbers(array: np.ndarray) -> str:
    """Integers in a line."""
    return " ".join(str(value) for value in array.reshape(-1))
