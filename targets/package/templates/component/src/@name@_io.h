// Made by edgeqwt; do not edit.
// What the model takes and gives, and conversions between real values and the model's integers.
#ifndef @guard@_IO_H_
#define @guard@_IO_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace @name@ {

// real = scale * (integer - zero_point). The scale is 0 where values are not quantized.
struct Port {
  const char* name;
  std::size_t elements;
  std::size_t bytes;
  float scale;
  std::int32_t zero_point;
};

@input_comments@
constexpr std::size_t kInputCount = @input_count@;
constexpr Port kInputs[kInputCount] = {
@input_rows@
};

@output_comments@
constexpr std::size_t kOutputCount = @output_count@;
constexpr Port kOutputs[kOutputCount] = {
@output_rows@
};

// A real value as the port's integer: rounded to the nearest, halves away from zero, saturated.
template <typename Integer>
Integer Quantize(float real, const Port& port) {
  static_assert(sizeof(Integer) <= 2, "wider integers are not exact in float");
  const float zero_point = static_cast<float>(port.zero_point);
  const float low = static_cast<float>(std::numeric_limits<Integer>::min()) - zero_point;
  const float high = static_cast<float>(std::numeric_limits<Integer>::max()) - zero_point;
  const float steps = std::fmin(std::fmax(std::round(real / port.scale), low), high);
  return static_cast<Integer>(static_cast<std::int32_t>(steps) + port.zero_point);
}

// The real value that an integer of the port stands for.
template <typename Integer>
float Dequantize(Integer integer, const Port& port) {
  static_assert(sizeof(Integer) <= 2, "wider integers are not exact in float");
  return port.scale * static_cast<float>(static_cast<std::int32_t>(integer) - port.zero_point);
}

}  // namespace @name@

#endif  // @guard@_IO_H_
