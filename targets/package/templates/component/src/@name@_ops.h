// Made by edgeqwt; do not edit.
// The kernels that the model needs, and no others: what is not registered is not linked.
#ifndef @guard@_OPS_H_
#define @guard@_OPS_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace @name@ {

constexpr unsigned int kOpCount = @op_count@;
using Resolver = tflite::MicroMutableOpResolver<kOpCount>;

inline TfLiteStatus AddOps(Resolver& resolver) {
@add_ops@
  return kTfLiteOk;
}

}  // namespace @name@

#endif  // @guard@_OPS_H_
