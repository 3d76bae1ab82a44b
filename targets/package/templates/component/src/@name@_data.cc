// Made by edgeqwt; do not edit.
#include "@name@_data.h"

namespace @name@ {

alignas(16) const unsigned char kModel[kModelSize] = {
@model_bytes@
};

}  // namespace @name@
