// Made by edgeqwt.
// Runs the model's test vectors once and says whether every output byte is as expected; ticks are microseconds.
#include <TensorFlowLite.h>  // tells the Arduino IDE which library has TFLite Micro

#include <@name@.h>
#include <@name@_self_test.h>

static std::uint32_t Now() { return micros(); }

static void Report(std::uint32_t vector, bool same, std::uint32_t ticks) {
  Serial.print("edgeqwt ticks=");
  Serial.println(static_cast<unsigned long>(ticks));
  if (!same) {
    Serial.print("edgeqwt vector ");
    Serial.print(static_cast<unsigned long>(vector));
    Serial.println(" differs");
  }
}

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  const @name@::SelfTestResult result = @name@::SelfTest(Now, Report);
  Serial.print("edgeqwt vectors=");
  Serial.print(static_cast<unsigned long>(result.vectors));
  Serial.print(" failures=");
  Serial.println(static_cast<unsigned long>(result.failures));
  Serial.println(result.failures == 0 ? "edgeqwt PASS" : "edgeqwt FAIL");
}

void loop() {}
