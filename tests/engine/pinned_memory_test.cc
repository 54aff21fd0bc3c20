// SPDX-License-Identifier: Apache-2.0
// A library without CUDA has no page-locked memory, and says so instead of handing out another one.
#include "engine/onnxruntime/pinned_memory.h"

#include "engine/memory_source.h"
#include "tests/engine/support.h"

namespace outboard::engine {
namespace {

TEST(PinnedMemory, IsNotThereWithoutADeviceThatReadsIt) {
  const auto library = Library::load({});
  if (!library) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const auto memory = PinnedMemory::make(*library, Device{});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().kind, ErrorKind::kEngine) << memory.error().message;
}

TEST(PinnedMemory, IsNotWhatAnEngineOnThisProcessorTakesRowsFrom) {
  const auto engine = load_onnxruntime({});
  if (!engine) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  auto* const source = dynamic_cast<MemorySource*>(engine->get());
  ASSERT_NE(source, nullptr);
  const auto memory = source->take_memory(4096);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().kind, ErrorKind::kUnimplemented);
}

}  // namespace
}  // namespace outboard::engine
