"""The packaged C++, through compilers and in QEMU where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.tensor import Quantization
from edgeqwt.runtime.boundary import limits, quantized, real
from edgeqwt.target.package.package import package
from tests.targets.package import common

ARM = "arm-none-eabi-g++"
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-fno-exceptions", "-fno-rtti")
CPUS = {
    "cortex-m4": ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "cortex-m55": ("-mcpu=cortex-m55", "-mthumb", "-mfpu=auto", "-mfloat-abi=hard"),
}
MACHINES = {"cortex-m4": "mps2-an386", "cortex-m55": "mps3-an547"}
DOWNLOADS = "tensorflow/lite/micro/tools/make/downloads"
# What needs no TFLite Micro: the model, the conversions, the arena's size, the test vectors.
ALONE = ("_data.cc", "_vectors.cc")
MODELS = (common.int8, common.int4, common.float_borders)


def tool(name: str) -> str:
    """A program's path; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def tflm_dir() -> Path:
    """The TFLite Micro tree that the user names."""
    named = os.environ.get("EDGEQWT_TFLM_DIR")
    if named is None:
        pytest.skip("EDGEQWT_TFLM_DIR, the path of a TFLite Micro tree, is not set")
    return Path(named)


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a program that must succeed, and shows what it says where it does not."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


def compile_object(compiler: str, source: Path, output: Path, flags: Sequence[object]) -> None:
    """Compiles one source; a warning is an error."""
    run(compiler, *STRICT, *flags, "-c", source, "-o", output)
    assert output.stat().st_size > 0


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("make", MODELS)
def test_what_needs_no_tflite_micro_compiles(tmp_path: Path, cpu: str, make: Callable[[], Graph]) -> None:
    compiler = tool(ARM)
    package(make(), common.TFLM, tmp_path)
    source = tmp_path / "edgeqwt_model" / "src"
    for name in ALONE:
        compile_object(compiler, source / f"edgeqwt_model{name}", tmp_path / f"{name}.o", CPUS[cpu])
    every = tmp_path / "all.cc"
    headers = ("_arena.h", "_data.h", "_io.h", "_vectors.h")
    every.write_text("".join(f'#include "edgeqwt_model{h}"\n' for h in headers), encoding="utf-8")
    compile_object(compiler, every, tmp_path / "all.o", (*CPUS[cpu], "-I", source))
    sizes = run("arm-none-eabi-size", tmp_path / "_data.cc.o").stdout.splitlines()[1].split()
    found = re.search(r"kModelSize = (\d+)", (source / "edgeqwt_model_data.h").read_text(encoding="utf-8"))
    assert found is not None
    assert int(sizes[0]) == int(found[1])  # text: the model and nothing else
    assert (sizes[1], sizes[2]) == ("0", "0")  # in flash, not in RAM


@pytest.mark.parametrize("cpu", CPUS)
def test_all_of_it_compiles_with_a_tflite_micro_tree(tmp_path: Path, cpu: str) -> None:
    compiler, tree = tool(ARM), tflm_dir()
    package(common.int4(), common.TFLM, tmp_path)
    third_party = [f"{DOWNLOADS}/{name}" for name in ("flatbuffers/include", "gemmlowp", "ruy")]
    system = [part for name in (".", *third_party) for part in ("-isystem", tree / name)]
    source = tmp_path / "edgeqwt_model" / "src"
    flags = (*CPUS[cpu], "-DTF_LITE_STATIC_MEMORY", "-I", source, *system)
    sources = [*source.glob("*.cc"), *(tmp_path / "firmware").rglob("*.cc")]
    assert len(sources) == 7
    for path in sources:
        compile_object(compiler, path, tmp_path / f"{path.stem}.o", flags)


@pytest.mark.requires("ethosu")
@pytest.mark.parametrize("make", [common.int8, common.float_borders])
def test_the_ethos_u_component_compiles_with_a_tflite_micro_tree(tmp_path: Path, make: Callable[[], Graph]) -> None:
    compiler, tree = tool(ARM), tflm_dir()
    package(make(), common.ETHOS, tmp_path)
    third_party = [f"{DOWNLOADS}/{name}" for name in ("flatbuffers/include", "gemmlowp", "ruy")]
    system = [part for name in (".", *third_party) for part in ("-isystem", tree / name)]
    source = tmp_path / "edgeqwt_model" / "src"
    sources = list(source.glob("*.cc"))
    assert len(sources) == 4
    for path in sources:
        flags = (*CPUS["cortex-m55"], "-DTF_LITE_STATIC_MEMORY", "-I", source, *system)
        compile_object(compiler, path, tmp_path / f"{path.stem}.o", flags)


CHECK = """
#include <cstdio>

#include "edgeqwt_model_vectors.h"

using namespace edgeqwt_model;

// Reads numbers of floats, floats; writes the integer and its real value for each, then the vectors.
int main() {
  float real = 0;
  while (std::fread(&real, sizeof(real), 1, stdin) == 1) {
    const auto integer = Quantize<TYPE>(real, kInputs[0]);
    const float back = Dequantize<TYPE>(integer, kInputs[0]);
    std::fwrite(&integer, sizeof(integer), 1, stdout);
    std::fwrite(&back, sizeof(back), 1, stdout);
  }
  for (const Vector& vector : kVectors) {
    for (std::size_t i = 0; i < kInputCount; ++i) std::fwrite(vector.inputs[i], 1, kInputs[i].bytes, stdout);
    for (std::size_t i = 0; i < kOutputCount; ++i) std::fwrite(vector.outputs[i], 1, kOutputs[i].bytes, stdout);
  }
}
"""


def reals(q: Quantization, dtype: str) -> Array:
    """Values around every integer and every half between two, beyond the range, and far beyond."""
    low, high = limits(dtype)
    steps = np.arange(low - 3, high + 4, 0.25) - int(q.zero_point[0])
    exact = (steps * float(q.scale[0])).astype(np.float32)
    near = np.concatenate([np.nextafter(exact, np.float32(-np.inf)), exact, np.nextafter(exact, np.float32(np.inf))])
    return np.concatenate([near, np.float32([0, -0.0, 1e30, -1e30, np.inf, -np.inf, 1e-40])])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_conversions_are_those_of_the_runtimes_and_vectors_are_whole(tmp_path: Path, dtype: str) -> None:
    compiler = tool("g++")
    package(common.int8(), common.TFLM, tmp_path)
    source = tmp_path / "edgeqwt_model" / "src"
    # The helpers take any type of 8 or 16 bits; scale and zero point are the model's.
    q = common.int8().tensors[common.int8().inputs[0]].quantization
    assert q is not None
    check, program = tmp_path / "check.cc", tmp_path / "check"
    check.write_text(CHECK.replace("TYPE", f"std::{dtype}_t"), encoding="utf-8")
    run(compiler, *STRICT, "-I", source, check, source / "edgeqwt_model_vectors.cc", "-o", program)
    values = reals(q, dtype)
    done = subprocess.run([program], input=values.tobytes(), capture_output=True, check=True)
    pair = np.dtype([("integer", dtype), ("real", "<f4")])
    found = np.frombuffer(done.stdout, pair, len(values))
    integers = quantized(values, q, dtype)
    np.testing.assert_array_equal(found["integer"], integers)
    np.testing.assert_array_equal(found["real"], real(integers, q))
    files = sorted((tmp_path / "vectors").iterdir())  # 0_input_0, 0_output_0, 1_input_0, ...
    assert done.stdout[len(found) * pair.itemsize :] == b"".join(path.read_bytes() for path in files)


def firmware(folder: Path, cpu: str) -> Path:
    """Builds a package's firmware as its README says."""
    cmake, tree = tool("cmake"), tflm_dir()
    tool(ARM)
    if not list(tree.glob(f"gen/*{cpu}*/lib/libtensorflow-microlite.a")):
        pytest.skip(f"no library for {cpu} was built in EDGEQWT_TFLM_DIR")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE=cmake/{cpu}.cmake"
    run(cmake, "-S", folder / "firmware", "-B", folder / "build", toolchain, f"-DTFLM_DIR={tree}")
    run(cmake, "--build", folder / "build", "--clean-first")
    return folder / "build" / "firmware.elf"


def emulated(image: Path, cpu: str) -> tuple[int, list[str]]:
    """Exit status and lines of a firmware in QEMU."""
    command = [tool("qemu-system-arm"), "-M", MACHINES[cpu], "-kernel", str(image), "-icount", "shift=0", "-nographic",
               "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("make", MODELS)
def test_firmware_computes_the_expected_bytes(tmp_path: Path, cpu: str, make: Callable[[], Graph]) -> None:
    package(make(), common.TFLM, tmp_path)
    status, lines = emulated(firmware(tmp_path, cpu), cpu)
    assert lines[-2:] == ["edgeqwt vectors=4 failures=0", "edgeqwt PASS"], lines
    assert status == 0
    assert len([line for line in lines if re.fullmatch(r"edgeqwt ticks=[1-9]\d*", line)]) == 4


def test_firmware_sees_one_wrong_byte(tmp_path: Path) -> None:
    package(common.int8(), common.TFLM, tmp_path)
    path = tmp_path / "edgeqwt_model" / "src" / "edgeqwt_model_vectors.cc"
    source = path.read_text(encoding="utf-8")
    output = re.search(r"kOutput2_0\[4\] = {\n    0x(..),", source)
    assert output is not None
    wrong = f"{int(output[1], 16) ^ 1:02x}"
    path.write_text(source[: output.start(1)] + wrong + source[output.end(1) :], encoding="utf-8")
    status, lines = emulated(firmware(tmp_path, "cortex-m4"), "cortex-m4")
    assert lines[-2:] == ["edgeqwt vectors=4 failures=1", "edgeqwt FAIL"], lines
    assert "edgeqwt vector 2 differs" in lines
    assert status == 1


def test_firmware_says_that_its_arena_is_too_small(tmp_path: Path) -> None:
    package(common.int8(), common.TFLM, tmp_path)
    path = tmp_path / "edgeqwt_model" / "src" / "edgeqwt_model_arena.h"
    path.write_text(
        re.sub(r"kArenaSize = \d+;", "kArenaSize = 1024;", path.read_text(encoding="utf-8")), encoding="utf-8"
    )
    status, lines = emulated(firmware(tmp_path, "cortex-m4"), "cortex-m4")
    assert lines[-2:] == ["edgeqwt vectors=4 failures=4", "edgeqwt FAIL"], lines
    assert len(lines) > 2  # what TFLite Micro says of it
    assert status == 1
