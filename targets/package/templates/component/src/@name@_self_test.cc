// Made by edgeqwt; do not edit.
#include "@name@_self_test.h"

#include <cstring>

#include "@name@.h"
#include "@name@_vectors.h"

namespace @name@ {
namespace {

bool SameOutputs(tflite::MicroInterpreter& interpreter, const Vector& vector) {
  for (std::size_t i = 0; i < kOutputCount; ++i) {
    if (std::memcmp(interpreter.output(i)->data.raw, vector.outputs[i], kOutputs[i].bytes) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

SelfTestResult SelfTest(std::uint32_t (*now)(), void (*report)(std::uint32_t vector, bool same, std::uint32_t ticks)) {
  SelfTestResult result = {kVectorCount, 0};
  tflite::MicroInterpreter* interpreter = Interpreter();
  if (interpreter == nullptr) {
    result.failures = result.vectors;
    return result;
  }
  for (std::uint32_t v = 0; v < kVectorCount; ++v) {
    const Vector& vector = kVectors[v];
    for (std::size_t i = 0; i < kInputCount; ++i) {
      std::memcpy(interpreter->input(i)->data.raw, vector.inputs[i], kInputs[i].bytes);
    }
    const std::uint32_t start = now();
    const bool ran = interpreter->Invoke() == kTfLiteOk;
    const std::uint32_t ticks = now() - start;
    const bool same = ran && SameOutputs(*interpreter, vector);
    result.failures += same ? 0 : 1;
    report(v, same, ticks);
  }
  return result;
}

}  // namespace @name@
