// Made by edgeqwt; do not edit.
#ifndef @guard@_H_
#define @guard@_H_

#include "@name@_arena.h"
#include "@name@_io.h"
#include "tensorflow/lite/micro/micro_interpreter.h"

namespace @name@ {

// The interpreter with the model loaded, made at the first call; nullptr where the arena is too small or
// TFLite Micro refuses the model. Fill input(i)->data, call Invoke(), read output(i)->data.
tflite::MicroInterpreter* Interpreter();

}  // namespace @name@

#endif  // @guard@_H_
