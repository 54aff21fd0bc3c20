# SPDX-License-Identifier: Apache-2.0
# Toolchain: OUTBOARD_ARCH (aarch64, x86_64) with a C library as old as 2.31, by zig's clang and libc++, which it links
# statically. scripts/install-cross.sh puts compiler and libraries there; scripts/cross-build.sh builds with it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${OUTBOARD_ARCH})
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES OUTBOARD_ARCH OUTBOARD_CROSS)

set(triple ${OUTBOARD_ARCH}-linux-gnu)
set(zig ${OUTBOARD_CROSS}/zig/ziglang/zig)
set(CMAKE_C_COMPILER ${zig} cc -target ${triple}.2.31)
set(CMAKE_CXX_COMPILER ${zig} c++ -target ${triple}.2.31)
file(WRITE ${CMAKE_BINARY_DIR}/zig-ar "#!/bin/sh\nexec ${zig} ar \"$@\"\n")
file(WRITE ${CMAKE_BINARY_DIR}/zig-ranlib "#!/bin/sh\nexec ${zig} ranlib \"$@\"\n")
file(CHMOD ${CMAKE_BINARY_DIR}/zig-ar ${CMAKE_BINARY_DIR}/zig-ranlib
  PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_AR ${CMAKE_BINARY_DIR}/zig-ar)
  set(CMAKE_${language}_COMPILER_RANLIB ${CMAKE_BINARY_DIR}/zig-ranlib)
  set(CMAKE_${language}_LIBRARY_ARCHITECTURE ${triple})
  # OpenSSL's configuration lies in the architecture's own folder.
  set(CMAKE_${language}_FLAGS_INIT "-isystem ${OUTBOARD_CROSS}/${OUTBOARD_ARCH}/usr/include/${triple}")
endforeach()
set(CMAKE_EXE_LINKER_FLAGS_INIT -s)
set(CMAKE_SHARED_LINKER_FLAGS_INIT -s)
set(CMAKE_AR ${CMAKE_BINARY_DIR}/zig-ar)
set(CMAKE_RANLIB ${CMAKE_BINARY_DIR}/zig-ranlib)
set(CMAKE_LIBRARY_ARCHITECTURE ${triple})

set(CMAKE_FIND_ROOT_PATH ${OUTBOARD_CROSS}/${OUTBOARD_ARCH})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
