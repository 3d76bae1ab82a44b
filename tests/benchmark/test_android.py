"""Android without a device: a stand-in for adb that keeps the device's files in a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeqwt.benchmark.android import AndroidSettings, bench_android
from edgeqwt.benchmark.bench import bench
from edgeqwt.benchmark.benchmark_model import parse, parse_ops
from edgeqwt.benchmark.result import OpCost, document
from edgeqwt.errors import InputError, ToolError
from tests.benchmark.test_backends import adding, written
from tests.benchmark.test_result import valid

# What adb does of our commands. The device's /data/local/tmp is the folder `device` beside it; `devices` is
# what it lists; `fail` holds the beginning of a command that fails; every command goes into `log`.
ADB = r"""#!{python}
import shutil, shlex, sys, time
from pathlib import Path

home = Path(__file__).parent
root = home / "device"
words = sys.argv[1:]
with (home / "log").open("a") as log:
    log.write(" ".join(words) + "\n")
if words == ["devices"]:
    print("* daemon started successfully\nList of devices attached\n" + (home / "devices").read_text())
    sys.exit()
assert words[:1] == ["-s"], words
serial, command = words[1], words[2:]
failing = (home / "fail").read_text()
if failing and " ".join(command).startswith(failing):
    print("adb: error: device went away", file=sys.stderr)
    sys.exit(1)

def on_device(path):
    assert path.startswith("/data/local/tmp/edgeqwt-"), path
    return root / path.removeprefix("/data/local/tmp/")

if command[0] == "push":
    shutil.copy(command[1], on_device(command[2]))
    print("1 file pushed")
elif command[0] == "shell":
    (line,) = command[1:]
    program, *rest = shlex.split(line)
    if program == "getprop":
        print({{"ro.product.cpu.abi": "arm64-v8a", "ro.product.manufacturer": "Maker", "ro.product.model": "Phone 1",
               "ro.build.version.release": "15"}}[rest[0]])
    elif program == "mkdir":
        on_device(rest[0]).mkdir()
    elif program == "chmod":
        assert rest[0] == "755"
        on_device(rest[1]).chmod(0o755)
    elif program == "rm":
        assert rest[0] == "-rf"
        shutil.rmtree(on_device(rest[1]))
    elif program.endswith("/benchmark_model"):
        assert on_device(program).exists() and rest[-1] == "2>&1"
        options = dict(word.removeprefix("--").split("=") for word in rest[:-1])
        assert on_device(options["graph"]).read_bytes()[4:8] == b"TFL3"
        print((home / "printed").read_text())
    else:
        sys.exit(f"{{program}}: inaccessible or not found")
else:
    sys.exit(f"adb: unknown command {{command[0]}}")
"""

COLUMNS = "\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]"
RUN_ORDER = "============================== Run Order =============================="
PRINTED = f"""\
STARTING!
Loaded model /data/local/tmp/model.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
Initialized session in 18.777ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=9 first=64791 curr=56295 min=44873 max=65831 avg=57758.2 std=4065

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=58154 curr=53809 min=53077 max=1.60727e+06 avg=55043.2 std=1562 p5=53100 median=54000 p95=56000

Inference timings in us: Init: 18777, First inference: 64791, Warmup (avg): 57758.2, Inference (avg): 55043.2
Memory footprint delta from the start of the tool (MB): init=8.97656 overall=18.75
Peak memory footprint (MB): init=10.5 overall=20.5
Profiling Info for Benchmark Initialization:
{RUN_ORDER}
{COLUMNS}
\t ModifyGraphWithDelegate\t   54.571\t   54.571\t 95.055%\t 95.055%\t  1132.000\t        1\tModifyGraphWithDelegate/0

Operator-wise Profiling Info for Regular Benchmark Runs:
{RUN_ORDER}
{COLUMNS}
\t   TfLiteXNNPackDelegate\t   48.100\t   48.000\t 95.0%\t 95.0%\t     0.000\t        1\t[a]:19
\t         AVERAGE_POOL_2D\t    0.010\t    0.008\t  0.015%\t 95.015%\t     0.000\t        1\t[pool]:12

============================== Top by Computation Time ==============================
{COLUMNS}
\t   TfLiteXNNPackDelegate\t   48.100\t   48.000\t 95.0%\t 95.0%\t     0.000\t        1\t[a]:19

Number of nodes executed: 2
Delegate internal:
{RUN_ORDER}
{COLUMNS}
\tDelegate/Convolution (NHWC, QC8) IGEMM\t   40.1\t   40.0\t 95.0%\t 95.0%\t 0.000\t 1\tDelegate/Convolution:0

"""

Prepare = Callable[..., AndroidSettings]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the stand-in."""
    folder = tmp_path / "home"
    (folder / "device").mkdir(parents=True)
    return folder


@pytest.fixture
def prepare(home: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Puts the stand-in on PATH."""

    def with_(
        devices: str = "emu-1\tdevice\n", fail: str = "", printed: str = PRINTED, machine: int = 183
    ) -> AndroidSettings:
        for name, text in (("devices", devices), ("fail", fail), ("printed", printed), ("log", "")):
            (home / name).write_text(text)
        (home / "adb").write_text(ADB.format(python=sys.executable))
        (home / "adb").chmod(0o755)
        (home / "program").write_bytes(b"\x7fELF\x02\x01" + bytes(12) + bytes([machine, 0]) + bytes(8))
        monkeypatch.setenv("PATH", str(home))
        return AndroidSettings(home / "program", timeout=30)

    return with_


def left(home: Path) -> list[Path]:
    """What is on the device."""
    return list((home / "device").iterdir())


def test_push_run_parse_clean_up(home: Path, prepare: Prepare, tmp_path: Path) -> None:
    result = bench_android(written(adding(), tmp_path), prepare())
    valid(document(result))
    assert result.value("latency_min", "xnnpack") == pytest.approx(0.053077)
    assert result.value("latency_mean", "xnnpack") == pytest.approx(0.0550432)
    assert result.value("latency_max", "xnnpack") == pytest.approx(1.60727)
    assert result.value("load_first", "xnnpack") == pytest.approx(0.018777)
    assert result.value("runs", "xnnpack") == 50
    assert result.value("memory_delta", "xnnpack") == 18.75 * 2**20
    assert result.value("memory_process_peak", "xnnpack") == 20.5 * 2**20
    assert result.op_costs == (
        OpCost("Convolution (NHWC, QC8) IGEMM", "Delegate/Convolution:0", "XNNPACK", 0.04, "s"),
        OpCost("AVERAGE_POOL_2D", "[pool]:12", "CPU", 8e-06, "s"),
    )
    assert result.machine == "Maker Phone 1 (arm64-v8a)"
    assert result.versions["android"] == "15"
    assert any("not verified on hardware" in note for note in result.notes)
    assert left(home) == []
    commands = (home / "log").read_text().splitlines()[1:]
    assert all(line.startswith("-s emu-1 ") for line in commands)


# The folder is on the device already, and something fails. The prefixes are those of our commands.
@pytest.mark.parametrize("fail", ["push", "shell chmod", "shell /data/local/tmp/edgeqwt-"])
def test_the_device_is_clean_after_a_failure(home: Path, prepare: Prepare, tmp_path: Path, fail: str) -> None:
    with pytest.raises(ToolError, match="exit status 1") as caught:
        bench_android(written(adding(), tmp_path), prepare(fail=fail))
    assert "device went away" in caught.value.hint
    assert left(home) == []


def test_the_first_failure_is_reported_when_cleaning_up_fails_too(home: Path, prepare: Prepare, tmp_path: Path) -> None:
    settings = prepare(fail="", printed="Segmentation fault\n")
    script = home / "adb"
    script.write_text(script.read_text().replace("shutil.rmtree(on_device(rest[1]))", "sys.exit(1)"))
    with pytest.raises(ToolError, match="rm -rf"):
        bench_android(written(adding(), tmp_path), settings)
    (home / "fail").write_text("push")
    with pytest.raises(ToolError, match="adb push") as caught:
        bench_android(written(adding(), tmp_path), settings)
    assert "may be left on the device" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("devices", "serial", "message", "hint"),
    [
        ("", None, "adb lists no device", "USB debugging"),
        ("a\tdevice\nb\tdevice\n", None, "adb lists 2 devices: a, b", "--serial"),
        ("a\tdevice\n", "c", "adb lists no device 'c'", "It lists a."),
        ("a\tunauthorized\n", None, "the device a is not ready: adb says 'unauthorized'", "confirm"),
        ("a\toffline\nb\tdevice\n", "a", "the device a is not ready: adb says 'offline'", "Connect"),
    ],
)
def test_devices_that_cannot_be_used(
    prepare: Prepare, tmp_path: Path, devices: str, serial: str | None, message: str, hint: str
) -> None:
    settings = replace(prepare(devices), serial=serial)
    with pytest.raises(InputError) as caught:
        bench_android(written(adding(), tmp_path), settings)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_one_of_several_devices_is_chosen(prepare: Prepare, tmp_path: Path) -> None:
    settings = replace(prepare("a\toffline\nb\tdevice\n"), serial="b")
    assert bench_android(written(adding(), tmp_path), settings).value("runs", "xnnpack") == 50


def test_a_program_for_another_processor(home: Path, prepare: Prepare, tmp_path: Path) -> None:
    path = written(adding(), tmp_path)
    with pytest.raises(InputError, match="is a program for x86_64, the device is arm64-v8a"):
        bench_android(path, prepare(machine=62))
    settings = prepare()
    settings.benchmark.write_text("#!/bin/sh\n")
    with pytest.raises(InputError, match="is no ELF program"):
        bench_android(path, settings)
    assert left(home) == []


def test_without_adb_it_says_what_to_install(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = prepare()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="adb could not be started") as caught:
        bench_android(written(adding(), tmp_path), settings)
    assert "platform tools" in caught.value.hint


def test_the_program_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        bench([written(adding(), tmp_path)], "android")
    assert "--benchmark-model" in caught.value.hint


def test_output_without_timings(home: Path, prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its last line: Failed to apply the delegate"):
        bench_android(written(adding(), tmp_path), prepare(printed="STARTING!\nFailed to apply the delegate\n"))
    assert left(home) == []
    with pytest.raises(InputError, match="its last line: nothing"):
        parse("")
    assert parse_ops("") == ()


def test_older_tables_have_a_column_more() -> None:
    """As benchmark_model of 2020 printed them, with spaces."""
    columns = "   [node type]   [start]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]"
    row = "       CONV_2D     0.000    2.100     2.000   50.0%  50.0%    0.000        1         [y]:0"
    printed = f"Operator-wise Profiling Info for Regular Benchmark Runs:\n{RUN_ORDER}\n{columns}\n{row}\n\n"
    assert parse_ops(printed) == (OpCost("CONV_2D", "[y]:0", "CPU", 0.002, "s"),)
