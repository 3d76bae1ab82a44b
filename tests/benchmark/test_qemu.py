"""A small firmware of our own on QEMU's two boards."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from edgeqwt.benchmark.elf import Elf, read_elf
from edgeqwt.benchmark.qemu import INSTRUCTIONS_PER_TICK, FirmwareOutput, bench_qemu, find_firmware, parse
from edgeqwt.benchmark.result import document
from edgeqwt.errors import InputError, ToolError
from tests.benchmark.test_result import valid

COMPILER = "arm-none-eabi-gcc"
needs_tools = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which("qemu-system-arm")), reason=f"{COMPILER} or qemu-system-arm is missing"
)
CPUS = {"mps2-an386": "cortex-m4", "mps3-an547": "cortex-m55"}
LOOPS = 4_000_000  # of two instructions

FIRMWARE = r"""
static void host(int call, const void* argument) {
  register int r0 __asm__("r0") = call;
  register const void* r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
static void print(const char* text) { host(4, text); }
static void number(unsigned value) {
  char digits[11]; int i = 10; digits[10] = 0;
  do { digits[--i] = (char)('0' + value % 10); value /= 10; } while (value);
  print(digits + i);
}
static volatile unsigned* const systick = (volatile unsigned*)0xE000E010;
static void work(void) {
  unsigned n = LOOPS;
  __asm__ volatile("1: subs %0, #1\n bne 1b" : "+r"(n) : : "cc");
}
void reset(void) {
  systick[1] = 0xFFFFFF; systick[2] = 0; systick[0] = 5;
  for (int k = 0; k < 2; ++k) {
    unsigned before = systick[2];
    work();
    unsigned ticks = (before - systick[2]) & 0xFFFFFF;
    print("edgeqwt ticks="); number(ticks); print("\n");
  }
  print(VERDICT);
  HANG
  const unsigned stop[2] = {0x20026, FAILED};
  host(0x20, stop);
  for (;;) { }
}
__attribute__((section(".vectors"), used)) static const void* vectors[] = {(void*)0x20010000, (void*)reset};
"""


def built(folder: Path, machine: str, verdict: str, hang: bool = False) -> Path:
    """A firmware that counts the ticks of a loop twice and prints a verdict."""
    source, script, elf = folder / "main.c", folder / "link.ld", folder / "build" / "firmware.elf"
    source.write_text(FIRMWARE)
    script.write_text(
        "SECTIONS { . = 0; .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } /DISCARD/ : { *(.ARM.ex*) } }"
    )
    elf.parent.mkdir()
    options = [f"-mcpu={CPUS[machine]}", "-mthumb", "-Os", "-ffreestanding", "-nostdlib", f"-T{script}", "-Wl,-e,reset",
               f"-DLOOPS={LOOPS}", f'-DVERDICT="{verdict}"', f"-DHANG={'for (;;) {}' if hang else ''}",
               f"-DFAILED={int('failures=0' not in verdict)}"]  # fmt: skip
    subprocess.run([COMPILER, *options, str(source), "-o", str(elf)], check=True)
    return elf


@needs_tools
@pytest.mark.parametrize("machine", CPUS)
def test_instructions_are_counted(tmp_path: Path, machine: str) -> None:
    elf = built(tmp_path, machine, "edgeqwt arena=1234\\nedgeqwt vectors=2 failures=0\\n")
    result = bench_qemu(tmp_path)  # the folder: it finds the firmware, and the board by its processor
    valid(document(result))
    assert result.settings["machine"] == machine
    # The loop, and some ten instructions around it that are less than a tick of 40 or 31.25 instructions and one more.
    assert result.value("instructions_min", "tflm") == pytest.approx(2 * LOOPS, abs=3 * INSTRUCTIONS_PER_TICK[machine])
    assert result.value("instructions_max", "tflm") == pytest.approx(2 * LOOPS, abs=3 * INSTRUCTIONS_PER_TICK[machine])
    assert result.value("arena", "tflm") == 1234
    assert result.ok
    assert result.evidence == "emulated"
    assert any("Instructions, not cycles" in note and "not verified on hardware" in note for note in result.notes)
    assert result.bytes == elf.stat().st_size


@needs_tools
def test_wrong_output_bytes_fail_the_check(tmp_path: Path) -> None:
    result = bench_qemu(built(tmp_path, "mps2-an386", "edgeqwt vectors=5 failures=2\\n"))
    assert not result.ok
    assert result.checks[0].detail == "3 of 5 test vectors"


@needs_tools
def test_a_firmware_that_is_no_self_test(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"firmware.elf did not print its results; it printed: .*hello"):
        bench_qemu(built(tmp_path, "mps2-an386", "hello failures=0\\n"))


@needs_tools
def test_a_firmware_that_hangs_is_given_up(tmp_path: Path) -> None:
    elf = built(tmp_path, "mps2-an386", "starting\\n", hang=True)
    with pytest.raises(ToolError, match="did not end within 3 s") as caught:
        bench_qemu(elf, timeout=3)
    assert "mps2-an386" in caught.value.hint


@needs_tools
def test_a_firmware_for_the_other_board(tmp_path: Path) -> None:
    elf = built(tmp_path, "mps3-an547", "edgeqwt vectors=1 failures=0\\n")
    with pytest.raises(InputError, match=r"is built for v8\.1-M, which mps2-an386 does not have") as caught:
        bench_qemu(elf, machine="mps2-an386")
    assert "mps3-an547" in caught.value.hint
    with pytest.raises(InputError, match="there is no machine 'pdp-11'"):
        bench_qemu(elf, machine="pdp-11")


@needs_tools
def test_without_qemu_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = built(tmp_path, "mps2-an386", "edgeqwt vectors=1 failures=0\\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="could not be started") as caught:
        bench_qemu(elf)
    assert "qemu-system-arm" in caught.value.hint


def test_programs_that_are_no_firmware(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        bench_qemu(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \.elf file"):
        bench_qemu(tmp_path)
    (tmp_path / "a.elf").write_bytes(b"text")
    with pytest.raises(InputError, match="is no ELF program"):
        bench_qemu(tmp_path)
    (tmp_path / "b.elf").touch()
    with pytest.raises(InputError, match=r"holds 2 .elf files: a.elf, b.elf"):
        find_firmware(tmp_path)
    header = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00" + bytes(8)
    (tmp_path / "a.elf").write_bytes(header)
    with pytest.raises(InputError, match="is a program for x86_64, not for Arm"):
        bench_qemu(tmp_path / "a.elf")


def test_the_processor_of_a_program(tmp_path: Path) -> None:
    for number, machine in ((40, "arm"), (183, "arm64"), (9, "machine 9")):
        (tmp_path / "elf").write_bytes(b"\x7fELF\x01\x01" + bytes(12) + bytes([number, 0]) + bytes(8))
        assert read_elf(tmp_path / "elf") == Elf(machine)


def test_what_a_firmware_prints() -> None:
    text = """\
        edgeqwt ticks=10
        some other line, edgeqwt ticks=99
        edgeqwt ticks=12
        edgeqwt vector 1 differs
        edgeqwt vectors=2 failures=1
        """
    assert parse(textwrap.dedent(text), Path("f.elf")) == FirmwareOutput((10, 12), 2, 1, None)
    with pytest.raises(InputError, match="it printed: nothing"):
        parse("", Path("f.elf"))


def test_a_library_that_refuses_the_model_is_quoted() -> None:
    text = "Node CONV_2D (number 0) failed to prepare with status 1\nedgeqwt vectors=4 failures=4\nedgeqwt FAIL\n"
    with pytest.raises(InputError, match="could not run the model: Node CONV_2D") as error:
        parse(text, Path("f.elf"))
    assert "TFLite Micro library" in error.value.hint
    with pytest.raises(InputError, match="did not print its results"):
        parse("edgeqwt ticks=10\n", Path("f.elf"))
