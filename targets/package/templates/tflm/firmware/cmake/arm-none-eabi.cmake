# Made by edgeqwt. Arm's GNU toolchain; a processor's file sets EDGEQWT_CPU_FLAGS and includes this one.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
set(CMAKE_SIZE arm-none-eabi-size)
set(CMAKE_C_FLAGS_INIT "${EDGEQWT_CPU_FLAGS}")
set(CMAKE_CXX_FLAGS_INIT "${EDGEQWT_CPU_FLAGS}")
set(CMAKE_CXX_FLAGS_RELEASE_INIT "-O2")
# CMake's own check of the compiler cannot link without a board.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
