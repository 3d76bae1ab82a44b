// Made by edgeqwt; do not edit.
#ifndef @guard@_SELF_TEST_H_
#define @guard@_SELF_TEST_H_

#include <cstdint>

namespace @name@ {

struct SelfTestResult {
  std::uint32_t vectors;
  std::uint32_t failures;  // vectors whose output bytes differ, or which did not run
};

// Runs every test vector once, in order.
//   now: a counter; its difference over Invoke() is reported.
//   report: called after each vector.
SelfTestResult SelfTest(std::uint32_t (*now)(), void (*report)(std::uint32_t vector, bool same, std::uint32_t ticks));

}  // namespace @name@

#endif  // @guard@_SELF_TEST_H_
