// Made by edgeqwt.
// What happens between reset and main() on a Cortex-M, and the tick counter.
#include <cstdint>
#include <cstdlib>

#include "board.h"

extern "C" {

// Places that sections.ld defines.
extern std::uint32_t link_stack_top[];
extern std::uint32_t link_data_start[], link_data_end[], link_data_load[];
extern std::uint32_t link_bss_start[], link_bss_end[];

int main();
void __libc_init_array();
[[noreturn]] void Reset();
[[noreturn]] void Fault();
void SysTickInterrupt();

// What the C++ runtime wants of the toolchain's crti.o and crtbegin.o, which are not linked.
void _init();
void _fini();
void* __dso_handle = nullptr;

void _init() {}

void _fini() {}

}  // extern "C"

namespace {

using Handler = void (*)();

struct VectorTable {
  void* stack;
  Handler handlers[15];
};

volatile std::uint32_t& Register(std::uintptr_t address) { return *reinterpret_cast<volatile std::uint32_t*>(address); }

constexpr std::uintptr_t kSysTickControl = 0xE000E010;
constexpr std::uintptr_t kSysTickReload = 0xE000E014;
constexpr std::uintptr_t kSysTickValue = 0xE000E018;
constexpr std::uintptr_t kInterruptControl = 0xE000ED04;
constexpr std::uintptr_t kCoprocessorAccess = 0xE000ED88;
constexpr std::uint32_t kSysTickPending = 1U << 26;
constexpr std::uint32_t kSysTickMaximum = 0xFFFFFF;

volatile std::uint32_t wraps = 0;

}  // namespace

extern "C" {

__attribute__((section(".vectors"), used)) const VectorTable vector_table = {
    link_stack_top,
    {Reset, Fault, Fault, Fault, Fault, Fault, Fault, nullptr, nullptr, nullptr, Fault, Fault, nullptr, Fault,
     SysTickInterrupt}};

void Reset() {
  Register(kCoprocessorAccess) = Register(kCoprocessorAccess) | (0xFU << 20);  // FPU, and MVE where there is one
  __asm volatile("dsb\n isb" ::: "memory");
  const std::uint32_t* from = link_data_load;
  for (std::uint32_t* to = link_data_start; to < link_data_end; ++to, ++from) {
    *to = *from;
  }
  for (std::uint32_t* to = link_bss_start; to < link_bss_end; ++to) {
    *to = 0;
  }
  __libc_init_array();
  std::exit(main());
}

void Fault() { std::_Exit(2); }

void SysTickInterrupt() { wraps = wraps + 1; }

}  // extern "C"

void StartTicks() {
  Register(kSysTickReload) = kSysTickMaximum;
  Register(kSysTickValue) = 0;
  Register(kSysTickControl) = 7;  // processor clock, interrupt, enable
}

std::uint32_t Ticks() {
  std::uint32_t before = 0;
  std::uint32_t value = 0;
  do {  // until no wrap came between the two readings
    before = wraps;
    value = Register(kSysTickValue);
  } while (before != wraps || (Register(kInterruptControl) & kSysTickPending) != 0);
  return before * (kSysTickMaximum + 1) + (kSysTickMaximum - value);
}
