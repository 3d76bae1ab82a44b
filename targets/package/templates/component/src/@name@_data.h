// Made by edgeqwt; do not edit.
#ifndef @guard@_DATA_H_
#define @guard@_DATA_H_

#include <cstddef>

namespace @name@ {

// The model as a TFLite flatbuffer.
constexpr std::size_t kModelSize = @model_size@;
extern const unsigned char kModel[kModelSize];

}  // namespace @name@

#endif  // @guard@_DATA_H_
