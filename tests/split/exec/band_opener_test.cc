// SPDX-License-Identifier: Apache-2.0
// Bands that are kept: a second set-up asks the engine to optimise nothing and computes the same
// bits, also where files were damaged, from another engine or could not be written; and weights are
// in memory once.
#include "split/exec/band_opener.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>

#include "engine/forwarding.h"
#include "engine/onnxruntime/engine.h"
#include "split/exec/blocked.h"
#include "split/exec/measure.h"
#include "split/graph/attributes.h"
#include "split/plan/plan.h"
#include "tests/split/exec/own_folder.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"
#include "tests/split/random_program.h"

namespace outboard::split::exec {
namespace {

namespace fs = std::filesystem;
using testing::OwnFolder;
using testing::Transport;
using testing::Values;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Counts what the engine is asked to optimise, and notes where shared tensors are.
class WatchedEngine final : public engine::ForwardingEngine {
 public:
  explicit WatchedEngine(std::unique_ptr<engine::Engine> real)
      : ForwardingEngine(std::move(real)) {}
  std::string version() const override { return ForwardingEngine::version() + also; }
  bool takes_shared_tensors() const override { return takes_shared; }
  Result<std::string> optimise(std::span<const std::byte> model,
                               const engine::OpenOptions& options) override {
    ++optimised;
    return ForwardingEngine::optimise(model, options);
  }
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options) override {
    if (refuses && !options.shared_tensors.empty())
      return error(ErrorKind::kEngine, "this engine takes no shared tensors");
    {
      const std::lock_guard lock(mutex_);
      model_bytes += model.size();
      for (const auto& t : options.shared_tensors) {
        shared.push_back(t.bytes.data());
        shared_bytes += t.bytes.size();
      }
    }
    ++opened;
    if (options.config_entries.contains("session.disable_prepacking")) ++unpacked;
    return ForwardingEngine::open_bytes(model, options);
  }

  std::string also;  // in the version
  bool takes_shared = true, refuses = false;
  std::atomic<int> optimised{0}, opened{0}, unpacked{0};
  std::vector<const std::byte*> shared;
  std::size_t shared_bytes = 0, model_bytes = 0;

 private:
  std::mutex mutex_;
};

std::unique_ptr<WatchedEngine> watched_engine() {
  auto real = engine::load_onnxruntime({});
  return real ? std::make_unique<WatchedEngine>(*std::move(real)) : nullptr;
}

class KeptBands : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
    channels_ = block_channels(*testing::test_engine());
    engine_ = watched_engine();
    // Convolutions, an addition, a fully connected layer whose weights are divided by rows.
    testing::ModelWriter m(5, 17);
    const std::int64_t wide = channels_ > 0 ? 2 * channels_ : 32;
    const auto conv = [&](const std::string& x, std::int64_t in, std::int64_t out) {
      const std::string y = m.node("Conv", {x, m.weights({out, in, 3, 3}), m.weights({out})});
      set_attribute(m.last(), "pads", std::vector<std::int64_t>{1, 1, 1, 1});
      return m.node("Relu", {y});
    };
    const std::string a = conv(m.input("image", {1, 3, 20, 9}), 3, wide);
    const std::string b = conv(conv(a, wide, wide), wide, wide);
    const std::string sum = m.node("Add", {a, b});
    m.output(m.node("Gemm", {m.node("Flatten", {sum}), m.weights({wide * 20 * 9, 10})}));
    model_ = {m.bytes(), m.random_inputs(), "convolutions and a head"};
    graph_ = testing::graph_of_bytes(model_.bytes);
    program_ = program({1, 1});
  }

  Program program(const std::vector<double>& shares) const {
    Program p;
    p.participants = {0, 1};
    for (int u = 0; u < static_cast<int>(graph_->units.size()); ++u) {
      const int rows = unit_rows(*graph_, u);
      p.blocks.push_back({u, u + 1, rows, cut_rows(rows, shares), 0, false});
    }
    return p;
  }
  PartOptions options(std::shared_ptr<BandStore> store) const {
    return {.block_channels = channels_, .bands = std::move(store), .model = model_hash_};
  }
  static std::shared_ptr<BandStore> open_store(const std::string& folder) {
    return BandStore::open({.folder = folder}).value();
  }
  using Cluster = std::unique_ptr<testing::PartCluster>;
  Cluster set_up(const Program& program, std::shared_ptr<BandStore> store,
                 engine::Engine& engine) const {
    auto cluster = testing::make_cluster(graph_, program, 0, Transport::kPair,
                                         options(std::move(store)), {}, {&engine, &engine});
    EXPECT_TRUE(cluster) << cluster.error().message;
    return cluster ? *std::move(cluster) : nullptr;
  }
  // One frame of a cluster with this store.
  Values result(std::shared_ptr<BandStore> store, engine::Engine& engine) const {
    const auto cluster = set_up(program_, std::move(store), engine);
    if (!cluster) return {};
    auto got = cluster->run(model_.inputs);
    EXPECT_TRUE(got) << got.error().message;
    return got ? *std::move(got) : Values{};
  }
  static void expect_same_bits(const Values& got, const Values& want) {
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [name, value] : want) EXPECT_EQ(got.at(name).floats, value.floats) << name;
  }

  int channels_ = 0;
  std::unique_ptr<WatchedEngine> engine_;
  testing::RandomModel model_;
  std::shared_ptr<const Graph> graph_;
  Program program_;
  Sha256 model_hash_ = sha256({});
};

TEST_F(KeptBands, AreOptimisedOnceAndGiveTheSameBits) {
  const OwnFolder folder;
  const Values plain = result(nullptr, *engine_);
  engine_->optimised = 0;
  expect_same_bits(result(open_store(folder.path()), *engine_), plain);
  EXPECT_GT(engine_->optimised, 0);
  const auto restarted = watched_engine();
  const auto store = open_store(folder.path());
  expect_same_bits(result(store, *restarted), plain);
  EXPECT_EQ(restarted->optimised, 0);
  EXPECT_EQ(store->totals().added, 0u);
  EXPECT_GT(store->totals().found, 0u);
  EXPECT_LT(testing::difference(plain, testing::run_model(model_.bytes, model_.inputs)), 5e-4);
}

// The last layer multiplies one row: nobody packs its weights. Turned ones ([10, K] in the model,
// [K, 10] in the band) give the same result.
TEST_F(KeptBands, OfAFullyConnectedLayerHaveItsWeightsAsOneRowReadsThem) {
  testing::ModelWriter m(6, 17);
  const std::string flat = m.node("Flatten", {m.node("Relu", {m.input("image", {1, 8, 12, 5})})});
  m.output(m.node("Gemm", {flat, m.weights({10, 8 * 12 * 5}), m.weights({10})}));
  set_attribute(m.last(), "transB", std::int64_t{1});
  model_ = {m.bytes(), m.random_inputs(), "a head whose weights are turned"};
  graph_ = testing::graph_of_bytes(model_.bytes);
  program_ = program({1, 1});
  const Values whole = testing::run_model(model_.bytes, model_.inputs);
  const OwnFolder folder;
  for (const auto& store : {std::shared_ptr<BandStore>(), open_store(folder.path())}) {
    engine_->unpacked = 0;
    EXPECT_LT(testing::difference(result(store, *engine_), whole), 5e-4);
    EXPECT_GE(engine_->unpacked, 2);  // each node's part of it
    EXPECT_LT(engine_->unpacked, engine_->opened);
  }
  int heads = 0;
  for (const Op& op : graph_->ops) {
    if (op.type != "Gemm" || op.phase == Phase::kCombine) continue;
    ++heads;
    EXPECT_TRUE(multiplies_one_row(*graph_, op));
    std::vector<TensorRows> wanted = {{op.outputs[0], {0, 1}}};
    const std::vector<SlotRows> slots = {{op.outputs[0], {{0, 6}, {6, 12}}}};
    const auto band = emit_band(*graph_, op.unit, op.unit + 1, wanted, slots);
    ASSERT_TRUE(band) << band.error().message;
    onnx::ModelProto model;
    ASSERT_TRUE(model.ParseFromString(band->bytes));
    for (const auto& node : model.graph().node())
      for (const auto& attribute : node.attribute()) EXPECT_NE(attribute.name(), "transB");
  }
  EXPECT_EQ(heads, 1);
}

// Large ones lie row by row of the image, so that another cut finds those of the rows that it has.
TEST_F(KeptBands, OfALargeFullyConnectedLayerAreTheSameInEveryCut) {
  testing::ModelWriter m(6, 17);
  const std::string x = m.node("Relu", {m.input("image", {1, 16, 5, 16})});
  m.output(m.node("Gemm", {m.node("Flatten", {x}), m.weights({1024, std::int64_t{16} * 5 * 16})}));
  set_attribute(m.last(), "transB", std::int64_t{1});
  const testing::RandomModel model{m.bytes(), m.random_inputs(), "a large head"};
  graph_ = testing::graph_of_bytes(model.bytes);
  const Values whole = testing::run_model(model.bytes, model.inputs);
  const OwnFolder folder;
  std::size_t weights = 0;
  for (const auto& shares : {std::vector<double>{1, 4}, {4, 1}, {3, 2}}) {
    const auto cluster = set_up(program(shares), open_store(folder.path()), *engine_);
    ASSERT_TRUE(cluster);
    const auto got = cluster->run(model.inputs);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_LT(testing::difference(*got, whole), 5e-4);
    const auto files = std::distance(fs::directory_iterator(folder.path() + "/weights"), {});
    if (weights == 0) weights = static_cast<std::size_t>(files);
    EXPECT_EQ(files, weights);
  }
  EXPECT_EQ(weights, 5u);
}

TEST_F(KeptBands, AreMadeAnewWhereAFileIsDamagedOrCutOff) {
  const OwnFolder folder;
  const Values plain = result(nullptr, *engine_);
  expect_same_bits(result(open_store(folder.path()), *engine_), plain);
  const auto files = folder.files();
  ASSERT_GT(files.size(), 4u);
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (i % 2 == 0)
      testing::damage(files[i]);
    else
      fs::resize_file(files[i], fs::file_size(files[i]) / 2);
  }
  engine_->optimised = 0;
  expect_same_bits(result(open_store(folder.path()), *engine_), plain);
  EXPECT_GT(engine_->optimised, 0);
  engine_->optimised = 0;
  expect_same_bits(result(open_store(folder.path()), *engine_), plain);
  EXPECT_EQ(engine_->optimised, 0);
}

// A profile's times are never the same twice, unless it is the one that was kept.
TEST_F(KeptBands, AreBesideTheProfileOfTheirGraph) {
  const testing::OwnFolder folder;
  const std::atomic<bool> never{false};
  BandOptions options{.channels = channels_, .threads = 1, .store = open_store(folder.path())};
  const auto measured = known_rows(*engine_, *graph_, options, never);
  ASSERT_TRUE(measured) << measured.error().message;
  const int opened = engine_->opened;
  EXPECT_GT(opened, 0);
  options.store = open_store(folder.path());
  const auto kept = known_rows(*engine_, *graph_, options, never);
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(engine_->opened, opened);
  EXPECT_EQ(*kept, *measured);
  // Another model's, or of other threads, is another one.
  options.model = sha256(std::as_bytes(std::span("another")));
  ASSERT_TRUE(known_rows(*engine_, *graph_, options, never));
  EXPECT_GT(engine_->opened, opened);
}

TEST_F(KeptBands, AreOfOneVersionOfTheEngineAndOfOneModel) {
  const OwnFolder folder;
  result(open_store(folder.path()), *engine_);
  const auto added = [&](engine::Engine& engine) {
    const auto store = open_store(folder.path());
    result(store, engine);
    return store->totals().added;
  };
  EXPECT_EQ(added(*engine_), 0u);
  const auto newer = watched_engine();
  newer->also = ".1";
  EXPECT_GT(added(*newer), 0u);
  EXPECT_GT(newer->optimised, 0);
  model_hash_ = sha256(std::as_bytes(std::span("another model")));
  EXPECT_GT(added(*engine_), 0u);
}

TEST_F(KeptBands, ShareTheirWeights) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  const BandOpener opener(*engine_, *graph_, {.channels = channels_, .threads = 1, .store = store});
  // The rows of a unit in the middle as boundary rows and the interior: one convolution each.
  const int tensor = graph_->ops[at(graph_->units[1].end_op - 1)].outputs[0];
  std::vector<std::shared_ptr<engine::Session>> sessions;
  for (const Rows rows : {Rows{0, 3}, Rows{3, 12}, Rows{12, 20}}) {
    const std::vector<TensorRows> wanted = {{tensor, rows}};
    const auto opened = opener.open({1, 2, wanted, {}});
    ASSERT_TRUE(opened) << opened.error().message;
    sessions.push_back(*opened);
  }
  ASSERT_EQ(engine_->shared.size() % 3, 0u);
  const std::set<const std::byte*> places(engine_->shared.begin(), engine_->shared.end());
  EXPECT_EQ(places.size(), engine_->shared.size() / 3);
  EXPECT_EQ(store->totals().weights, places.size());
  EXPECT_EQ(store->totals().weight_bytes, engine_->shared_bytes / 3);
  EXPECT_GT(store->totals().weight_bytes, engine_->model_bytes);
  sessions.clear();
  EXPECT_EQ(store->totals().weights, 0u);
}

TEST_F(KeptBands, OfAnotherPlanThatIsInUseAreOpenAlready) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  const auto old_plan = set_up(program_, store, *engine_);
  ASSERT_TRUE(old_plan);
  const int opened = engine_->opened;
  const auto before = store->totals();
  const auto same_plan = set_up(program_, store, *engine_);
  EXPECT_EQ(engine_->opened, opened);
  EXPECT_EQ(store->totals().weight_bytes, before.weight_bytes);
  // Other cuts: convolutions have the same weights, the head's are divided in another way.
  engine_->optimised = 0;
  const auto other_plan = set_up(program({3, 2}), store, *engine_);
  ASSERT_TRUE(other_plan);
  EXPECT_GT(engine_->opened, opened);
  EXPECT_LT(store->totals().weight_bytes, 2 * before.weight_bytes);
  const Values plain = result(nullptr, *engine_);
  for (testing::PartCluster* plan : {old_plan.get(), same_plan.get()}) {
    const auto got = plan->run(model_.inputs);
    ASSERT_TRUE(got) << got.error().message;
    expect_same_bits(*got, plain);
  }
}

TEST_F(KeptBands, AreNotKeptWhereNothingCanBeWritten) {
  const OwnFolder folder;
  const Values plain = result(nullptr, *engine_);
  const auto store = open_store(folder.path());
  for (const char* name : {"/weights", "/bands"}) {
    fs::remove_all(folder.path() + name);
    std::ofstream(folder.path() + name) << "no folder";
  }
  expect_same_bits(result(store, *engine_), plain);
  // Nor where there is no room.
  const OwnFolder small;
  expect_same_bits(
      result(BandStore::open({.folder = small.path(), .limit_bytes = 5000}).value(), *engine_),
      plain);
  EXPECT_LE(small.size_bytes(), 5000u);
}

TEST_F(KeptBands, AreOnlyOfEnginesThatReadThemInPlace) {
  const OwnFolder folder;
  const Values plain = result(nullptr, *engine_);
  engine_->refuses = true;
  expect_same_bits(result(open_store(folder.path()), *engine_), plain);
  const OwnFolder empty;
  engine_->takes_shared = false;
  expect_same_bits(result(open_store(empty.path()), *engine_), plain);
  EXPECT_TRUE(empty.files().empty());
}

class KeptBandsOf : public ::testing::TestWithParam<int> {};

// Random networks: what is found is what was made, and both give the bits of bands that are not
// kept.
TEST_P(KeptBandsOf, RandomNetworksGiveTheSameBits) {
  if (!testing::test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const int channels = block_channels(*testing::test_engine());
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const auto model = seed % 4 == 0 ? testing::random_token_model(seed)
                                   : testing::random_image_model(seed, std::max(1, channels));
  const auto graph = testing::graph_of_bytes(model.bytes);
  std::mt19937_64 random(seed + 4);
  const auto nodes = testing::equal_nodes(2);
  const auto [program, host] =
      testing::numbered(testing::random_program(*graph, nodes, random), nodes);
  const OwnFolder folder;
  Values plain;
  for (const bool kept : {false, true, true}) {
    PartOptions options{.block_channels = channels};
    if (kept) options.bands = BandStore::open({.folder = folder.path()}).value();
    auto cluster = testing::make_cluster(graph, program, host, Transport::kPair, options);
    ASSERT_TRUE(cluster) << cluster.error().message;
    auto got = (*cluster)->run(model.inputs);
    ASSERT_TRUE(got) << got.error().message;
    if (!kept) plain = *std::move(got);
    if (!kept) continue;
    for (const auto& [name, value] : plain) {
      EXPECT_EQ(got->at(name).floats, value.floats) << name;
      EXPECT_EQ(got->at(name).ints, value.ints) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, KeptBandsOf, ::testing::Range(1, 31));

}  // namespace
}  // namespace outboard::split::exec
