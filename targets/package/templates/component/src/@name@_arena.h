// Made by edgeqwt; do not edit.
// Memory that TFLite Micro works in.
#ifndef @guard@_ARENA_H_
#define @guard@_ARENA_H_

#include <cstddef>

namespace @name@ {

@arena_comment@
#ifdef @guard@_ARENA_SIZE
constexpr std::size_t kArenaSize = @guard@_ARENA_SIZE;
#else
constexpr std::size_t kArenaSize = @arena_size@;
#endif

}  // namespace @name@

#endif  // @guard@_ARENA_H_
