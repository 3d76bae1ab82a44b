// Made by edgeqwt.
// Runs the model's test vectors once and says whether every output byte is as expected.
#include <cinttypes>
#include <cstdio>

#include "@name@.h"
#include "@name@_self_test.h"
#include "board/board.h"

// Builds of TFLite Micro for "cortex_m_generic" hand their messages to a function that one registers; others print.
extern "C" void RegisterDebugLogCallback(void (*callback)(const char* text)) __attribute__((weak));

namespace {

void Print(const char* text) { std::printf("%s", text); }

void Report(std::uint32_t vector, bool same, std::uint32_t ticks) {
  std::printf("edgeqwt ticks=%" PRIu32 "\n", ticks);
  if (!same) {
    std::printf("edgeqwt vector %" PRIu32 " differs\n", vector);
  }
}

}  // namespace

int main() {
  StartTicks();
  if (RegisterDebugLogCallback != nullptr) {
    RegisterDebugLogCallback(Print);
  }
  const @name@::SelfTestResult result = @name@::SelfTest(Ticks, Report);
  tflite::MicroInterpreter* interpreter = @name@::Interpreter();
  if (interpreter != nullptr) {
    std::printf("edgeqwt arena=%u\n", static_cast<unsigned>(interpreter->arena_used_bytes()));
  }
  std::printf("edgeqwt vectors=%" PRIu32 " failures=%" PRIu32 "\n", result.vectors, result.failures);
  std::printf("edgeqwt %s\n", result.failures == 0 ? "PASS" : "FAIL");
  return result.failures == 0 ? 0 : 1;
}
