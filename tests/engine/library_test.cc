// SPDX-License-Identifier: Apache-2.0
// Loading ONNX Runtime: what is found, and what is said when it cannot be used.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/engine/support.h"

namespace outboard::engine {
namespace {

TEST(Library, TheWheelOfTheBuildFolderIsFound) {
  const auto found = find_onnxruntime_library();
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_NE(found->find("libonnxruntime.so"), std::string::npos) << *found;
}

TEST(Library, SaysWhatItIs) {
  const auto engine = engine_or_die();
  EXPECT_EQ(engine->name(), "onnxruntime");
  EXPECT_TRUE(engine->version().starts_with("1.")) << engine->version();
  EXPECT_EQ(engine->device(), "cpu");
  // What the device offers, not all that was compiled into the library.
  EXPECT_EQ(engine->available_providers(), std::vector<std::string>{"CPUExecutionProvider"});
}

TEST(Library, APathWithoutALibraryIsNotFound) {
  const auto engine = load_onnxruntime({.library = "/nonexistent/libonnxruntime.so"});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(engine.error().message.find("/nonexistent/libonnxruntime.so"), std::string::npos);
}

TEST(Library, AnotherLibraryIsNotONNXRuntime) {
  const auto engine = load_onnxruntime({.library = "libz.so.1"});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(engine.error().message.find("is not ONNX Runtime"), std::string::npos);
}

TEST(Library, AnUnknownDeviceIsInvalid) {
  for (const char* device : {"tpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU", ""}) {
    const auto engine = load_onnxruntime({.device = device});
    ASSERT_FALSE(engine) << device;
    EXPECT_EQ(engine.error().kind, ErrorKind::kInvalid) << device;
  }
}

// With the CPU library the CUDA path ends in the library's own words; with the CUDA build on a
// machine without a GPU likewise. Where there is a GPU it works.
TEST(Library, CudaWorksOrTheLibrarySaysWhyNot) {
  const auto engine = load_onnxruntime({.device = "cuda:0"});
  if (engine) {
    EXPECT_EQ((*engine)->device(), "cuda:0");
    return;
  }
  EXPECT_EQ(engine.error().kind, ErrorKind::kEngine);
  EXPECT_NE(engine.error().native_code, 0);
  EXPECT_NE(engine.error().message.find("while preparing the device (cuda:0)"), std::string::npos);
  EXPECT_GT(engine.error().message.find(", while"), 10u) << "the library's own message comes first";
}

}  // namespace
}  // namespace outboard::engine
