// SPDX-License-Identifier: Apache-2.0
// Buffers that share memory: random networks and plans, their tasks in random orders that the plan
// allows, and nobody ever finds another's rows where its own should be.
#include "split/exec/place.h"

#include <gtest/gtest.h>

#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"
#include "tests/split/random_program.h"

namespace outboard::split {
namespace {

using namespace testing;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// The memory of one participant's frame: whose each piece of it is.
class Memory {
 public:
  explicit Memory(exec::Steps steps)
      : steps_(std::move(steps)), owner_((steps_.frame_bytes + 63) / 64, -1) {
    written_.assign(steps_.buffers.size(), 0);
    for (int b : steps_.model_inputs) write(b);
    for (const auto& c : steps_.input_copies) write(c.to);
  }

  void run(int task) {
    for (const auto& s : steps_.steps) {
      if (s.task != task) continue;
      for (int b : s.inputs) read(b);
      for (int b : s.outputs) write(b);
      for (const auto& c : s.copies) {
        read(c.from);
        write(c.to);
      }
    }
  }
  void end() const {
    for (int b : steps_.model_outputs) read(b);
  }
  std::uint64_t bytes() const { return steps_.frame_bytes; }
  std::uint64_t bytes_unshared() const {
    std::uint64_t sum = 0;
    for (const auto& b : steps_.buffers) sum += (b.size_bytes + 63) / 64 * 64;
    return sum;
  }

 private:
  template <typename Do>
  void each(int buffer, const Do& act) const {
    const auto& b = steps_.buffers[at(buffer)];
    ASSERT_EQ(b.offset % 64, 0u);
    ASSERT_LE(b.offset + b.size_bytes, steps_.frame_bytes);
    for (std::uint64_t i = b.offset / 64; i < (b.offset + b.size_bytes + 63) / 64; ++i) act(i);
  }
  void read(int buffer) const {
    each(buffer, [&](std::size_t i) { ASSERT_EQ(owner_[i], buffer); });
  }
  // A buffer that is filled from several places must still be there when the next rows come.
  void write(int buffer) {
    if (written_[at(buffer)]) read(buffer);
    written_[at(buffer)] = 1;
    each(buffer, [&](std::size_t i) { owner_[i] = buffer; });
  }

  const exec::Steps steps_;
  std::vector<int> owner_;
  std::vector<char> written_;
};

void run_in_random_order(const Layout& layout, std::vector<Memory>& memories,
                         std::mt19937_64& random) {
  std::vector<std::size_t> missing;
  for (const auto& w : layout.waits) missing.push_back(w.size());
  std::vector<int> ready;
  for (int t = 0; t < layout.tasks(); ++t)
    if (missing[at(t)] == 0) ready.push_back(t);
  int done = 0;
  while (!ready.empty()) {
    std::swap(ready[random() % ready.size()], ready.back());
    const int task = ready.back();
    ready.pop_back();
    for (auto& m : memories) m.run(task);
    ++done;
    for (int t = 0; t < layout.tasks(); ++t)
      for (int w : layout.waits[at(t)])
        if (w == task && --missing[at(t)] == 0) ready.push_back(t);
  }
  EXPECT_EQ(done, layout.tasks());
  for (const auto& m : memories) m.end();
}

class Placed : public ::testing::TestWithParam<int> {};

TEST_P(Placed, NobodyFindsAnothersRows) {
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const RandomModel model = seed % 4 == 0 ? random_token_model(seed) : random_image_model(seed);
  const auto graph = graph_of_bytes(model.bytes);
  std::mt19937_64 random(seed + 11);
  const Cluster nodes = equal_nodes(1 + static_cast<int>(random() % 4));
  const auto [program, host] = numbered(random_program(*graph, nodes, random), nodes);
  const Layout layout = exec::layout_of(*graph, program, host);
  std::vector<exec::Steps> steps;
  for (int p = 0; p < program.size(); ++p) {
    auto compiled = exec::compile(*graph, program, layout, host, p);
    ASSERT_TRUE(compiled) << compiled.error().message;
    steps.push_back(*std::move(compiled));
  }
  for (int order = 0; order < 3; ++order) {
    std::vector<Memory> memories(steps.begin(), steps.end());
    run_in_random_order(layout, memories, random);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Placed, ::testing::Range(1, 121));

TEST(PlacedTogether, ADeepNetworkNeedsAFractionOfItsRows) {
  std::uint64_t shared = 0, unshared = 0;
  std::mt19937_64 random(5);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const auto graph = graph_of_bytes(random_image_model(seed).bytes);
    const Cluster nodes = equal_nodes(2);
    const auto [program, host] = numbered(random_program(*graph, nodes, random), nodes);
    const auto steps =
        exec::compile(*graph, program, exec::layout_of(*graph, program, host), host, host);
    ASSERT_TRUE(steps);
    const Memory memory(*steps);
    EXPECT_LE(memory.bytes(), memory.bytes_unshared());
    shared += memory.bytes();
    unshared += memory.bytes_unshared();
  }
  EXPECT_LT(static_cast<double>(shared), 0.9 * static_cast<double>(unshared));
}

}  // namespace
}  // namespace outboard::split
