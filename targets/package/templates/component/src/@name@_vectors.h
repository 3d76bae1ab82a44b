// Made by edgeqwt; do not edit.
// Inputs, and the output bytes that the model must give for them:
// @vectors_origin@.
// Nothing here is linked unless the self-test is.
#ifndef @guard@_VECTORS_H_
#define @guard@_VECTORS_H_

#include <cstddef>

#include "@name@_io.h"

namespace @name@ {

// Little-endian elements, kInputs[i].bytes and kOutputs[i].bytes of them, aligned to 16 bytes.
struct Vector {
  const unsigned char* inputs[kInputCount];
  const unsigned char* outputs[kOutputCount];
};

constexpr std::size_t kVectorCount = @vector_count@;
extern const Vector kVectors[kVectorCount];

}  // namespace @name@

#endif  // @guard@_VECTORS_H_
