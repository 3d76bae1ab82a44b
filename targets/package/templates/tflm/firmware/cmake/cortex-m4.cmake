# Made by edgeqwt. Cortex-M4 with FPU, on QEMU's mps2-an386.
set(CMAKE_SYSTEM_PROCESSOR cortex-m4)
set(EDGEQWT_CPU_FLAGS "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
set(EDGEQWT_BOARD mps2-an386)
include("${CMAKE_CURRENT_LIST_DIR}/arm-none-eabi.cmake")
