// Made by edgeqwt.
#ifndef BOARD_H_
#define BOARD_H_

#include <cstdint>

// Starts SysTick with the processor's clock.
void StartTicks();

// Clock ticks since StartTicks(), modulo 2^32.
std::uint32_t Ticks();

#endif  // BOARD_H_
