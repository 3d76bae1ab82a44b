// Made by edgeqwt; do not edit.
#include "@name@.h"

#include "@name@_data.h"
#include "@name@_ops.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace @name@ {
namespace {

alignas(16) unsigned char arena[kArenaSize];

tflite::MicroInterpreter* Load() {
  const tflite::Model* model = tflite::GetModel(kModel);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    MicroPrintf("This TFLite Micro reads another version of the schema than the model's.");
    return nullptr;
  }
  static Resolver resolver;
  if (AddOps(resolver) != kTfLiteOk) {
    return nullptr;
  }
  static tflite::MicroInterpreter interpreter(model, resolver, arena, kArenaSize);
  return interpreter.AllocateTensors() == kTfLiteOk ? &interpreter : nullptr;
}

}  // namespace

tflite::MicroInterpreter* Interpreter() {
  static tflite::MicroInterpreter* interpreter = Load();
  return interpreter;
}

}  // namespace @name@
