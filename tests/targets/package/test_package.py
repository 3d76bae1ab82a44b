from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeqwt.errors import InputError, InvariantError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Signature
from edgeqwt.profile import TargetProfile
from edgeqwt.target.package.package import package
from edgeqwt.target.package.stripped import stripped
from edgeqwt.target.package.tflm import memory_sentences
from tests import small
from tests.lowering.test_lookup_weights import network
from tests.targets.package import common
from tests.targets.placement import integer_cases

COMPONENT = {
    "CMakeLists.txt", "idf_component.yml", "library.properties", "examples/SelfTest/SelfTest.ino",
    "zephyr/CMakeLists.txt", "zephyr/Kconfig", "zephyr/module.yml",
    *(f"src/edgeqwt_model{name}" for name in (
        ".cc", ".h", "_arena.h", "_data.cc", "_data.h", "_io.h", "_ops.h", "_self_test.cc", "_self_test.h",
        "_vectors.cc", "_vectors.h")),
}  # fmt: skip
FIRMWARE = {
    "CMakeLists.txt", "main.cc", "cmake/arm-none-eabi.cmake", "cmake/cortex-m4.cmake", "cmake/cortex-m55.cmake",
    "board/board.h", "board/mps2-an386.ld", "board/mps3-an547.ld", "board/sections.ld", "board/semihosting.cc",
    "board/startup.cc",
}  # fmt: skip
VECTORS = {f"vectors/{i}_{what}_0.bin" for i in range(4) for what in ("input", "output")}


def packed(graph: Graph, profile: TargetProfile, folder: Path) -> set[str]:
    """Packages a graph; returns the files' names."""
    package(graph, profile, folder)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def same_every_time(graph: Graph, profile: TargetProfile, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        package(graph, profile, folder / name)
    assert small.tree(folder / "a") == small.tree(folder / "b")


def test_tflite(tmp_path: Path) -> None:
    graph = common.int8()
    assert packed(graph, common.TFLITE, tmp_path) == {"README.md", "model.tflite", "io.json", *VECTORS}
    assert (tmp_path / "model.tflite").read_bytes() == flatbuffer.to_bytes(graph)


def test_the_check_in_the_tflite_readme_works(tmp_path: Path) -> None:
    package(common.int8(), common.TFLITE, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"vectors/{i}_output_0.bin True" for i in range(4)]
    (tmp_path / "vectors" / "2_output_0.bin").write_bytes(b"\0" * 4)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "vectors/2_output_0.bin False" in done.stdout


@pytest.mark.parametrize("make", [common.int8, common.int4, common.float_borders])
def test_tflm(tmp_path: Path, make: Callable[[], Graph]) -> None:
    graph = make()
    component = {f"edgeqwt_model/{name}" for name in COMPONENT}
    firmware = {f"firmware/{name}" for name in FIRMWARE}
    expected = {"README.md", "model.tflite", "io.json", *VECTORS, *component, *firmware}
    assert packed(graph, common.TFLM, tmp_path) == expected
    source = (tmp_path / "edgeqwt_model/src/edgeqwt_model_data.cc").read_text(encoding="utf-8")
    data = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", source))
    assert data == flatbuffer.to_bytes(stripped(graph))
    header = (tmp_path / "edgeqwt_model/src/edgeqwt_model_data.h").read_text(encoding="utf-8")
    assert f"kModelSize = {len(data)};" in header


@pytest.mark.parametrize("profile", [common.TFLITE, common.TFLM])
def test_the_same_bytes_every_time(tmp_path: Path, profile: TargetProfile) -> None:
    same_every_time(common.int8(), profile, tmp_path)


@pytest.mark.requires("ethosu")
def test_ethos_u(tmp_path: Path) -> None:
    message = package(common.int8(), common.ETHOS, tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    component = {f"edgeqwt_model/{name}" for name in COMPONENT}
    files = {"README.md", "io.json", "summary.json", "vela.log", "model_vela.tflite"}
    assert found == files | VECTORS | component
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["cycles"]["total"] > 0
    assert summary["memory_bytes"]["sram"] > 0
    ops = (tmp_path / "edgeqwt_model/src/edgeqwt_model_ops.h").read_text(encoding="utf-8")
    assert "AddEthosU()" in ops
    left = [op for op in summary["ops"] if op["where"] != "NPU"]
    if not left:
        assert message[0] == f"All {len(summary['ops'])} ops run on the NPU."
    assert message[1].startswith(f"Vela estimates {summary['cycles']['total']:,.0f} cycles, ")
    assert message[0] in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.requires("ethosu")
def test_what_the_npu_leaves_to_the_cpu_is_said(tmp_path: Path) -> None:
    message = package(common.float_borders(), common.ETHOS, tmp_path)
    assert "run on the CPU" in message[0]
    assert "Quantize" in message[0]
    ops = (tmp_path / "edgeqwt_model/src/edgeqwt_model_ops.h").read_text(encoding="utf-8")
    assert {"AddDequantize", "AddEthosU", "AddQuantize"} == set(re.findall(r"Add\w+(?=\(\))", ops))


@pytest.mark.requires("ethosu")
def test_an_op_that_the_npu_has_and_tflite_micro_lacks(tmp_path: Path) -> None:
    # TFLite Micro's interpreter refuses the file, the NPU runs it: the vectors are then LiteRT's.
    message = package(integer_cases(8)["GELU/image"], common.ETHOS, tmp_path)
    assert message[0] == "All 1 ops run on the NPU."
    assert "outputs of LiteRT's reference kernels" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_memory_is_reported_and_held_against_a_typical_board() -> None:
    board = replace(common.TFLM, limits={"ram": 100, "flash": 200})
    first, *others = memory_sentences(1000, 200, board)
    assert "1,000 bytes of RAM, the model 200 bytes of flash" in first
    assert others == ["That is more than a typical board's 100 bytes: name yours with --ram."]
    assert len([*memory_sentences(100, 200, board)]) == 1


@pytest.mark.parametrize("named", ["key", "", None])
def test_the_readme_says_how_the_signature_is_called(tmp_path: Path, named: str | None) -> None:
    graph = common.int8()
    signature = Signature(named or "", (("x", graph.inputs[0]),), (("y", graph.outputs[0]),))
    package(replace(graph, signatures=() if named is None else (signature,)), common.TFLITE, tmp_path)
    said = {"key": "signature is `key`", "": "signature has no name", None: "no signature"}[named]
    assert said in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_what_crashes_vela_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="4-bit weights"):
        package(common.int4(), common.ETHOS, tmp_path)


def test_a_package_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InvariantError, match="'floppy'"):
        package(common.int8(), replace(common.TFLM, package="floppy"), tmp_path)


@pytest.mark.parametrize("profile", [common.TFLITE, common.TFLM])
def test_no_text_is_left_unfilled_or_too_long_to_read(tmp_path: Path, profile: TargetProfile) -> None:
    package(common.int8(), profile, tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".h", ".cc", ".txt", ".md", ".cmake", ".ld", ".yml", ".ino", ".properties"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"@[a-z_]+@", text), path
            assert max(map(len, text.splitlines())) <= 120 or path.suffix in (".md", ".txt"), path


@pytest.mark.requires("tflite_micro")
def test_weights_behind_lookup_tables(tmp_path: Path) -> None:
    graph, _ = network("w4a8")
    notes = package(graph, common.TFLM, tmp_path, compress=True)
    assert re.search(r"2 weights are behind lookup tables: [\d,]+ bytes of flash in place of [\d,]+", notes[0])
    assert (tmp_path / "model.tflite").read_bytes() == flatbuffer.to_bytes(graph)  # what people and desktop tools read
    (ops,) = tmp_path.rglob("edgeqwt_model_ops.h")
    assert "AddDecode()" in ops.read_text()
    (tmp_path / "none").mkdir()
    assert "No weight" in package(network("w8a8")[0], common.TFLM, tmp_path / "none", compress=True)[0]


def test_lookup_tables_are_for_tflite_micro(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not for the target tflite") as error:
        package(common.int8(), common.TFLITE, tmp_path, compress=True)
    assert "tflm" in error.value.hint
