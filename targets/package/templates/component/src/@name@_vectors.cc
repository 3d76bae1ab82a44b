// Made by edgeqwt; do not edit.
#include "@name@_vectors.h"

namespace @name@ {
namespace {

@vector_arrays@

}  // namespace

const Vector kVectors[kVectorCount] = {
@vector_rows@
};

}  // namespace @name@
