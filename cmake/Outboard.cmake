# SPDX-License-Identifier: Apache-2.0
# The build's few habits: flags, ccache, linker, and one function each for a library and a test.

find_program(OUTBOARD_CCACHE ccache)
if(OUTBOARD_CCACHE)
  # Base folder and no hashed directory: another checkout of the same tree hits the same cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
                                  CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
                                  ${OUTBOARD_CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Werror -Wno-unused-parameter -fno-omit-frame-pointer
                    -ffunction-sections -fdata-sections)
add_link_options(-fuse-ld=lld -Wl,--gc-sections)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
endif()
if(OUTBOARD_SANITIZE)
  add_compile_options(-fsanitize=${OUTBOARD_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${OUTBOARD_SANITIZE})
  # It does not follow a ring's fences (src/wire/transport/ring_stream.cc): what it says of rings may be false.
  if(OUTBOARD_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan)
  endif()
endif()
if(OUTBOARD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# outboard_library(NAME SOURCES ... DEPS ...): a static library that includes from src/.
function(outboard_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# outboard_test(NAME [SANITIZED] [TIMEOUT s] SOURCES ... DEPS ... [LABELS ...]): a GoogleTest program,
# one CTest entry. SANITIZED: it is also built and run by the asan and tsan presets.
# Property tests draw the same cases in every run (RC_PARAMS, where it is set when CMake runs, draws others).
# Tests that open sockets take free ports; no two tests share state, so CTest runs them in parallel.
if(DEFINED ENV{RC_PARAMS})
  set(OUTBOARD_RC_PARAMS "$ENV{RC_PARAMS}")
else()
  set(OUTBOARD_RC_PARAMS "seed=1")
endif()

function(outboard_test name)
  cmake_parse_arguments(ARG "SANITIZED" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(OUTBOARD_SANITIZE AND NOT ARG_SANITIZED)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  if(ARG_SANITIZED)
    list(APPEND ARG_LABELS sanitized)
    add_dependencies(sanitized_tests ${name})
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    ENVIRONMENT "OUTBOARD_SOURCE_DIR=${CMAKE_SOURCE_DIR};OUTBOARD_BINARY_DIR=${CMAKE_BINARY_DIR};OUTBOARD_DEPS=${OUTBOARD_DEPS};RC_PARAMS=${OUTBOARD_RC_PARAMS}")
endfunction()
