// SPDX-License-Identifier: Apache-2.0
// The server's small parts: times, buffers, threads, conversions.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <limits>

#include "serve/buffers.h"
#include "serve/convert.h"
#include "serve/statistics.h"
#include "serve/threads.h"
#include "serve/worker/placed_session.h"
#include "serve/worker/reopening.h"
#include "serve/worker/shown_model.h"
#include "serve/worker/worker_memory.h"
#include "tests/serve/fake_engine.h"

namespace outboard::serve {
namespace {

TEST(TimeWindow, MeanAndP95) {
  TimeWindow window;
  EXPECT_EQ(window.summary().count, 0u);
  for (int i = 1; i <= 100; ++i) window.add(static_cast<std::uint64_t>(i) * 1000);
  const auto summary = window.summary();
  EXPECT_EQ(summary.count, 100u);
  EXPECT_DOUBLE_EQ(summary.mean_us, 50.5);
  EXPECT_DOUBLE_EQ(summary.p95_us, 95);
  EXPECT_DOUBLE_EQ(summary.max_us, 100);
}

TEST(TimeWindow, OnlyTheLatestCount) {
  TimeWindow window;
  for (std::size_t i = 0; i < TimeWindow::kSamples; ++i) window.add(1'000'000);
  for (std::size_t i = 0; i < TimeWindow::kSamples; ++i) window.add(5'000);
  EXPECT_EQ(window.summary().count, TimeWindow::kSamples);
  EXPECT_DOUBLE_EQ(window.summary().max_us, 5);
}

TEST(BufferPool, ALikeRunFindsTheBufferOfTheLast) {
  BufferPool pool(1u << 20);
  const std::byte* first = nullptr;
  {
    const auto buffer = pool.take(100'000);
    first = buffer.data();
    EXPECT_GE(buffer.capacity(), 100'000u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % BufferPool::kAlignment, 0u);
  }
  EXPECT_EQ(pool.take(99'999).data(), first);
}

TEST(BufferPool, KeepsNoMoreThanItsLimit) {
  BufferPool pool(64u << 10);
  {
    std::vector<BufferPool::Buffer> buffers;
    for (int i = 0; i < 32; ++i) buffers.push_back(pool.take(8u << 10));
    buffers.push_back(pool.take(1u << 20));
  }
  EXPECT_LE(pool.kept_bytes(), 64u << 10);
  EXPECT_GT(pool.kept_bytes(), 0u);
}

TEST(BufferPool, AnAbsurdSizeIsNoMemoryAndNoCrash) {
  BufferPool pool(1u << 20);
  EXPECT_EQ(pool.take(std::size_t{1} << 62).data(), nullptr);
}

TEST(Threads, AreAllJoined) {
  std::atomic<int> ran{0};
  {
    Threads threads;
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(threads.start([&] { ++ran; }));
    threads.wait_for_all();
    EXPECT_EQ(threads.running(), 0u);
    ASSERT_TRUE(threads.start([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 51);
}

TEST(Threads, RunAtTheSameTime) {
  Threads threads;
  std::latch together(4);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(threads.start([&] { together.arrive_and_wait(); }));
}

// ---- conversions
// --------------------------------------------------------------------------------

TEST(Convert, OptionsThatComputeOtherwiseAreRefused) {
  wire::SessionOptions options;
  options.config_entries = {{"session.set_denormal_as_zero", "1"},
                            {"session.intra_op.allow_spinning", "0"}};
  auto taken = to_engine(options);
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(taken->config_entries,
            (std::map<std::string, std::string>{{"session.set_denormal_as_zero", "1"}}));
  for (const char* key : {"ep.context_enable", "ep.context_file_path", "made.up",
                          "session.model_external_initializers_file_folder_path"}) {
    options.config_entries = {{key, "1"}};
    taken = to_engine(options);
    ASSERT_FALSE(taken) << key;
    EXPECT_EQ(taken.error().kind, ErrorKind::kUnimplemented);
    EXPECT_NE(taken.error().message.find(key), std::string::npos);
  }
}

TEST(Convert, OnlyHarmlessProviderOptionsAreTaken) {
  wire::SessionOptions options;
  options.providers = {
      {"TensorrtExecutionProvider", {{"trt_engine_cache_path", "/etc"}}},
      {"CUDAExecutionProvider", {{"device_id", "7"}, {"use_tf32", "0"}, {"gpu_mem_limit", "1"}}},
      {"CPUExecutionProvider", {}}};
  const auto taken = to_engine(options);
  ASSERT_TRUE(taken);
  ASSERT_EQ(taken->providers.size(), 2u);
  EXPECT_EQ(taken->providers[0].name, "TensorrtExecutionProvider");
  EXPECT_TRUE(taken->providers[0].options.empty()) << "a client must not name files of the server";
  EXPECT_EQ(taken->providers[1].name, "CUDAExecutionProvider");
  EXPECT_EQ(taken->providers[1].options, (std::map<std::string, std::string>{{"use_tf32", "0"}}));
}

TEST(Convert, DifferentOptionsHaveDifferentKeys) {
  std::vector<engine::OpenOptions> all(8);
  all[1].graph_optimization_level = 0;
  all[2].parallel_execution = true;
  all[3].free_dimensions_by_name = {{"a", 1}};
  all[4].free_dimensions_by_denotation = {{"a", 1}};
  all[5].config_entries = {{"a", "b c 1:d 1:e"}};
  all[6].config_entries = {{"a", "b"}, {"d", "e"}};
  all[7].providers = {{"p", {{"a", "b"}}}};
  std::vector<std::string> keys;
  for (const auto& options : all) keys.push_back(options_key(options));
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
  EXPECT_EQ(options_key(all[6]), options_key(engine::OpenOptions(all[6])));
}

TEST(Convert, InputsAreCheckedAgainstTheSignature) {
  const engine::ValueInfo x{.name = "x",
                            .kind = "tensor",
                            .type = engine::ElementType::kFloat,
                            .has_shape = true,
                            .dims = {-1, 3},
                            .dim_names = {"batch", ""}};
  using wire::ElementType;
  EXPECT_TRUE(check_input(x, {.type = ElementType::kFloat, .dims = {5, 3}, .data_bytes = 60}));
  EXPECT_EQ(check_input(x, {.type = ElementType::kInt32, .dims = {5, 3}, .data_bytes = 60})
                .error()
                .message,
            "the input (x) has the element type int32; expected float");
  EXPECT_EQ(check_input(x, {.type = ElementType::kFloat, .dims = {5, 4}, .data_bytes = 80})
                .error()
                .message,
            "the input (x) has the shape (5, 4); expected (batch, 3)");
  EXPECT_FALSE(check_input(x, {.type = ElementType::kFloat, .dims = {3}, .data_bytes = 12}));
}

TEST(Reopening, IsOfTheProcesssOwnDescriptorsAlone) {
  EXPECT_EQ(descriptor_of("/proc/self/fd/0"), 0);
  EXPECT_EQ(descriptor_of("/proc/self/fd/17"), 17);
  for (const char* path :
       {"", "/proc/self/fd", "/proc/self/fd/", "/proc/self/fd/1x", "/proc/self/fd/-1",
        "/proc/self/fd/1/..", "/proc/self/fd/../mem", "/proc/1/fd/1", "/etc/passwd", "17",
        "/proc/self/fd/99999999999999999999", "/proc/self/fdinfo/1"})
    EXPECT_EQ(descriptor_of(path), -1) << path;
}

// A session as a worker may show one that was taken over.
class LyingSession final : public engine::Session {
 public:
  engine::ModelInfo said;
  std::vector<engine::OutputView> gives;

  explicit LyingSession(std::int64_t size) {
    said.outputs.push_back({.name = "model",
                            .kind = "tensor",
                            .type = engine::ElementType::kUint8,
                            .has_shape = true,
                            .dims = {size},
                            .dim_names = {""}});
  }
  const engine::ModelInfo& info() const override { return said; }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> /*inputs*/,
                                                  std::span<const engine::OutputWanted> /*wanted*/,
                                                  engine::RunControl* /*control*/) override {
    struct Outputs final : engine::RunOutputs {
      explicit Outputs(std::vector<engine::OutputView> values) { values_ = std::move(values); }
    };
    return std::unique_ptr<engine::RunOutputs>(std::make_unique<Outputs>(gives));
  }
};

TEST(ShownModel, OfAnotherFormIsAnError) {
  const auto refused = [](LyingSession& session) {
    const auto shown = take_shown_model(session, 100);
    return !shown && shown.error().kind == ErrorKind::kInvalid;
  };
  for (const std::int64_t size :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40,
        std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min(),
        static_cast<std::int64_t>(most_shown_bytes(100)) + 1}) {
    LyingSession session(size);
    EXPECT_TRUE(refused(session)) << size;
  }
  LyingSession session(10);
  EXPECT_TRUE(refused(session)) << "it announces ten bytes and gives nothing";
  session.gives.push_back({.type = engine::ElementType::kUint8, .dims = {5}});
  EXPECT_TRUE(refused(session)) << "it gives others";
  session = LyingSession(10);
  session.said.outputs[0].type = engine::ElementType::kFloat;
  EXPECT_TRUE(refused(session));
  session = LyingSession(10);
  session.said.outputs[0].dims = {2, 5};
  EXPECT_TRUE(refused(session));
  session = LyingSession(10);
  session.said.outputs.push_back(session.said.outputs[0]);
  EXPECT_TRUE(refused(session));
  session.said.outputs.clear();
  EXPECT_TRUE(refused(session));
}

TEST(ShownModel, IsAtMostOfTheSizeOfAMessage) {
  EXPECT_GT(most_shown_bytes(0), 1u << 20);
  EXPECT_EQ(most_shown_bytes(std::uint64_t{1} << 62), (std::uint64_t{1} << 31) - 1);
  EXPECT_GT(most_shown_bytes(100u << 20), 100u << 20);
}

// A session of fixed shape, and memory for three of its tensors.
class Placed : public testing::Test {
 protected:
  static constexpr std::int64_t kBytes = 65536 * sizeof(float);

  void SetUp() override {
    auto made = WorkerMemory::make(3 * kBytes);
    ASSERT_TRUE(made) << made.error().message;
    memory_ = std::move(*made);
    ASSERT_TRUE(handed_.add(memory_->number, memory_->descriptor));
    auto placed = make_placed_session(open("fixed"), handed_);
    ASSERT_TRUE(placed) << placed.error().message;
    placed_ = std::move(*placed);
  }
  std::shared_ptr<engine::Session> open(const std::string& word) {
    return *engine_.open_bytes(std::as_bytes(std::span(word)), {});
  }
  Result<void> run(const std::vector<std::int64_t>& numbers) {
    const auto count = static_cast<std::int64_t>(numbers.size());
    const engine::InputView input{
        engine::ElementType::kInt64, std::span(&count, 1), std::as_bytes(std::span(numbers)), {}};
    const engine::OutputWanted wanted{};
    OB_TRY(const auto done, placed_->run(std::span(&input, 1), std::span(&wanted, 1)));
    return {};
  }
  std::int64_t number() const { return static_cast<std::int64_t>(memory_->number); }

  FakeEngine engine_;
  std::shared_ptr<WorkerMemory> memory_;
  HandedMemories handed_;
  std::shared_ptr<engine::Session> placed_;
};

TEST_F(Placed, ComputesWhereItsTensorsAre) {
  memory_->mapping.data()[kBytes + 5] = std::byte{42};
  ASSERT_TRUE(run({number(), kBytes, 0}));
  EXPECT_EQ(memory_->mapping.data()[5], std::byte{42});
  const auto* const there = handed_.find(memory_->number)->data();
  EXPECT_EQ(engine_.stage->last_input, there + kBytes);
  EXPECT_EQ(engine_.stage->last_output, there);
}

TEST_F(Placed, ButNotBeyondItsMemory) {
  for (const std::int64_t offset :
       {std::int64_t{-1}, 2 * kBytes + 1, 3 * kBytes, std::numeric_limits<std::int64_t>::max(),
        std::numeric_limits<std::int64_t>::min()}) {
    EXPECT_FALSE(run({number(), offset, 0})) << offset;
    EXPECT_FALSE(run({number(), 0, offset})) << offset;
  }
  EXPECT_FALSE(run({number() + 1, 0, 0}));
  EXPECT_FALSE(run({number(), 0}));
  EXPECT_TRUE(run({number(), 2 * kBytes, kBytes}));
  handed_.forget(memory_->number);
  EXPECT_FALSE(run({number(), 0, kBytes}));
  EXPECT_FALSE(make_placed_session(open("echo"), handed_)) << "its size is open";
}

TEST_F(Placed, PlacesAreOfTensorsThatAllLieInOneMemory) {
  WorkerMemories memories;
  const auto info = open("fixed")->info();
  const std::int64_t count = kBytes / static_cast<std::int64_t>(sizeof(float)), less = count - 1;
  const auto places = [&](std::byte* in, std::byte* out, const std::int64_t& in_count) {
    const engine::InputView input{
        engine::ElementType::kFloat,
        std::span(&in_count, 1),
        std::span<const std::byte>(in, static_cast<std::size_t>(in_count) * sizeof(float)),
        {}};
    const engine::OutputBuffer buffer{engine::ElementType::kFloat, std::span(&count, 1),
                                      std::span(out, static_cast<std::size_t>(kBytes))};
    const engine::OutputWanted wanted{0, &buffer};
    return memories.places_of(info, std::span(&input, 1), std::span(&wanted, 1));
  };
  std::byte* const at = memory_->mapping.data();
  EXPECT_FALSE(places(at, at + kBytes, count)) << "it is not known yet";
  memories.add(memory_);
  const auto found = places(at + kBytes, at + 2 * kBytes, count);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->numbers, (std::vector<std::int64_t>{number(), kBytes, 2 * kBytes}));
  std::vector<std::byte> elsewhere(static_cast<std::size_t>(kBytes));
  EXPECT_FALSE(places(elsewhere.data(), at, count));
  EXPECT_FALSE(places(at, elsewhere.data(), count));
  EXPECT_FALSE(places(at, at + kBytes, less));
  EXPECT_FALSE(places(at, at + 2 * kBytes + 64, count)) << "it ends behind the memory";
  memories.remove(*memory_);
  EXPECT_FALSE(places(at + kBytes, at + 2 * kBytes, count));
}

}  // namespace
}  // namespace outboard::serve
