# Made by edgeqwt. Cortex-M55 with FPU and MVE (Helium), on QEMU's mps3-an547.
set(CMAKE_SYSTEM_PROCESSOR cortex-m55)
set(EDGEQWT_CPU_FLAGS "-mcpu=cortex-m55 -mthumb -mfpu=auto -mfloat-abi=hard")
set(EDGEQWT_BOARD mps3-an547)
include("${CMAKE_CURRENT_LIST_DIR}/arm-none-eabi.cmake")
