// SPDX-License-Identifier: Apache-2.0
// Opening models and what the row rules say about them.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "split/graph/attributes.h"
#include "split/graph/emit.h"
#include "split/report/report.h"
#include "tests/split/random_model.h"

namespace outboard::split {
namespace {

using testing::ModelWriter;

Result<Graph> build(const std::string& bytes, const GraphOptions& options = {}) {
  auto file = OnnxFile::parse(std::as_bytes(std::span(bytes)), ".");
  if (!file) return tl::make_unexpected(file.error());
  return build_graph(*file, options);
}

const Op& op_of(const Graph& g, const std::string& type) {
  for (const auto& op : g.ops)
    if (op.type == type) return op;
  throw std::runtime_error("no operator " + type);
}

TEST(OnnxFile, LeavesLargeWeightsWhereTheyAre) {
  ModelWriter m;
  const std::string w = m.weights({16, 3, 7, 7});
  m.output(m.node("Conv", {m.input("x", {1, 3, 9, 9}), w}));
  const std::string bytes = m.bytes();
  auto file = OnnxFile::parse(std::as_bytes(std::span(bytes)), ".");
  ASSERT_TRUE(file.has_value());
  const auto raw = (*file)->raw(w);
  EXPECT_EQ(raw.size(), 16 * 3 * 7 * 7 * sizeof(float));
  EXPECT_GE(raw.data(), static_cast<const void*>(bytes.data()));
  EXPECT_LT(raw.data(), static_cast<const void*>(bytes.data() + bytes.size()));
  EXPECT_FALSE((*file)->initializer(w)->has_raw_data());
}

TEST(OnnxFile, RefusesWhatIsNoModel) {
  for (const std::string& bytes :
       {std::string(), std::string("hello, this is no model"), std::string(64, '\xff')})
    EXPECT_FALSE(OnnxFile::parse(std::as_bytes(std::span(bytes)), ".").has_value());
  EXPECT_EQ(OnnxFile::open("/nowhere/model.onnx").error().kind, ErrorKind::kNotFound);
}

TEST(Graph, RefusesTensorsWhoseSizeOverflows) {
  constexpr std::int64_t kHalf = std::int64_t{1} << 32;
  for (const Shape& shape :
       {Shape{1, 3, kHalf, kHalf}, Shape{1, 1, kHalf, 2}, Shape{kHalf, kHalf, kHalf, kHalf},
        Shape{1, 1, std::int64_t{1} << 62, 1}}) {
    ModelWriter m;
    m.output(m.node("Relu", {m.input("x", shape)}));
    const auto graph = build(m.bytes());
    ASSERT_FALSE(graph) << ::testing::PrintToString(shape);
    EXPECT_EQ(graph.error().kind, ErrorKind::kInvalid);
  }
}

RC_GTEST_PROP(OnnxFile, NeverReadsBeyondACutModel, (std::uint64_t seed, std::uint16_t keep)) {
  const std::string whole = testing::random_image_model(seed % 50).bytes;
  const std::string bytes = whole.substr(0, keep % whole.size());
  const auto file = OnnxFile::parse(std::as_bytes(std::span(bytes)), ".");
  if (file) (void)build_graph(*file);
}

TEST(OnnxFile, ReadsExternalDataBelowTheModelOnly) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "outboard-external";
  std::filesystem::create_directories(folder);
  const std::vector<float> values(2048, 0.5F);
  std::ofstream(folder / "w.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), 8192);
  const auto model = [&](const std::string& location, const std::string& length) {
    ModelWriter m;
    const std::string w = m.weights({32, 64});
    auto& t = *m.model().mutable_graph()->mutable_initializer(0);
    t.clear_raw_data();
    t.set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [k, v] :
         {std::pair<std::string, std::string>{"location", location}, {"length", length}}) {
      auto& e = *t.add_external_data();
      e.set_key(k);
      e.set_value(v);
    }
    m.output(m.node("MatMul", {m.input("x", {1, 5, 32}), w}));
    const std::string bytes = m.bytes();
    std::ofstream(folder / "m.onnx", std::ios::binary) << bytes;
    return OnnxFile::open((folder / "m.onnx").string());
  };
  const auto good = model("w.bin", "8192");
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ((*good)->raw("w1").size(), 8192U);
  EXPECT_FALSE(model("../w.bin", "8192").has_value());
  EXPECT_FALSE(model("/etc/passwd", "10").has_value());
  EXPECT_FALSE(model("w.bin", "9000").has_value());
  EXPECT_FALSE(model("w.bin", "many").has_value());
  std::filesystem::remove_all(folder);
}

TEST(Graph, WantsAFixedInput) {
  ModelWriter m;
  m.output(m.node("Relu", {m.input("x", {1, 3, -1, 8})}));
  const auto g = build(m.bytes());
  ASSERT_FALSE(g.has_value());
  EXPECT_NE(g.error().message.find("(x)"), std::string::npos);
  GraphOptions options;
  options.input_shapes["x"] = {1, 3, 8, 8};
  EXPECT_TRUE(build(m.bytes(), options).has_value());
}

TEST(Graph, FoldsShapeArithmetic) {
  ModelWriter m;
  const std::string x = m.input("x", {1, 6, 8, 4});
  const std::string shape = m.node("Shape", {x});
  const std::string n = m.node("Gather", {shape, m.ints({0})});
  const std::string to = m.node("Concat", {n, m.ints({6, -1})});
  set_attribute(m.last(), "axis", std::int64_t{0});
  m.output(m.node("Reshape", {x, to}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(g->ops.size(), 1U);
  EXPECT_EQ(g->tensors[static_cast<std::size_t>(g->outputs[0])].shape, (Shape{1, 6, 32}));
  EXPECT_EQ(g->tensors[static_cast<std::size_t>(g->outputs[0])].extent, 4);  // rows of four tokens
}

TEST(Graph, KeepsBranchesOfOneDepthInOneUnit) {
  ModelWriter m;
  const std::string x = m.input("x", {1, 4, 16, 16});
  std::vector<std::string> parts;
  for (int branch = 0; branch < 3; ++branch) {
    const std::string y = m.node("Conv", {x, m.weights({4, 4, 1, 1})});
    parts.push_back(m.node("Conv", {y, m.weights({4, 4, 3, 3})}));
    set_attribute(m.last(), "pads", std::vector<std::int64_t>{1, 1, 1, 1});
  }
  const std::string all = m.node("Concat", parts);
  set_attribute(m.last(), "axis", std::int64_t{1});
  m.output(m.node("Conv", {all, m.weights({2, 12, 3, 3})}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(g->units.size(), 3U);  // 1x1s; all 3x3s and the concat; the last 3x3
}

// A profile goes by units' names: the sum of a divided layer's parts must not be taken for the
// layer.
TEST(Graph, GivesTheHalvesOfADividedReductionNamesOfTheirOwn) {
  ModelWriter m;
  const std::string flat = m.node("Flatten", {m.input("x", {1, 4, 12, 6})});
  m.output(m.node("Gemm", {flat, m.weights({4 * 12 * 6, 10})}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g) << g.error().message;
  std::set<std::string> names;
  for (const auto& unit : g->units) EXPECT_TRUE(names.insert(unit.name).second) << unit.name;
  const Unit& last = g->units.back();
  EXPECT_EQ(g->ops[static_cast<std::size_t>(last.heaviest_op)].phase, Phase::kCombine);
  EXPECT_TRUE(last.name.ends_with("/combined")) << last.name;
}

TEST(Graph, EndsARegionAtWhatHasNoRowRule) {
  ModelWriter m;
  const std::string x = m.node("Conv", {m.input("x", {1, 4, 16, 16}), m.weights({4, 4, 3, 3})});
  m.node("TopK", {x, m.ints({2})}, 2);
  const std::string values = m.last().output(0);
  m.output(m.node("Relu", {values}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(op_of(*g, "TopK").kind, OpKind::kHost);
  EXPECT_NE(op_of(*g, "TopK").reason.find("TopK has no row rule"), std::string::npos);
  const auto parts = regions(*g);
  ASSERT_FALSE(parts.empty());
  EXPECT_NE(parts[0].ended_by.find("TopK"), std::string::npos);
}

TEST(Graph, RunsOnTheHostWhatResizesByAFraction) {
  ModelWriter m;
  m.output(m.node("Resize", {m.input("x", {1, 2, 10, 10}), "", m.floats({1, 1, 1.5, 1.5}, {4})}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(op_of(*g, "Resize").kind, OpKind::kHost);
}

TEST(Graph, DistrustsARuleThatTheEngineContradicts) {
  ModelWriter m;
  const std::string y = m.node("Conv", {m.input("x", {1, 4, 16, 16}), m.weights({4, 4, 3, 3})});
  m.output(y);
  GraphOptions options;
  options.shapes[y] = {1, 4, 13, 14};
  const auto g = build(m.bytes(), options);
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(op_of(*g, "Conv").kind, OpKind::kHost);
}

TEST(Graph, CountsFlopsAndHalos) {
  ModelWriter m;
  m.output(m.node("Conv", {m.node("Conv", {m.input("x", {1, 3, 18, 18}), m.weights({8, 3, 3, 3})}),
                           m.weights({4, 8, 3, 3})}));
  const auto g = build(m.bytes());
  ASSERT_TRUE(g.has_value());
  EXPECT_DOUBLE_EQ(g->flops(), 2.0 * 8 * 16 * 16 * 27 + 2.0 * 4 * 14 * 14 * 72);
  // The cut at row 7 of 14 is at row 8 of 16; above it needs rows up to 9, below from 7 on: two
  // rows.
  EXPECT_DOUBLE_EQ(halo_bytes(*g, 1), 2.0 * 8 * 16 * sizeof(float));
}

RC_GTEST_PROP(Graph, InfersTheShapesThatTheRuntimeInfers, (std::uint64_t seed)) {
  if (!testing::runtime_available()) return;
  const auto model = testing::random_image_model(seed);
  const auto g = build(model.bytes);
  RC_ASSERT(g.has_value());
  const auto shapes = testing::infer_output_shapes(shape_probe(*g));
  for (const auto& t : g->tensors) {
    const auto it = shapes.find(t.name);
    if (it == shapes.end() ||
        std::any_of(it->second.begin(), it->second.end(), [](auto d) { return d <= 0; }))
      continue;
    RC_ASSERT(it->second == t.shape);
  }
}

TEST(RowMap, IsTheReceptiveField) {
  const RowMap conv{2, 1, -1, 1, false};  // 3x3, stride 2, pad 1
  EXPECT_EQ(conv.unclamped({0, 4}), (Rows{-1, 8}));
  EXPECT_EQ(conv.needs({0, 4}, 8), (Rows{0, 8}));
  EXPECT_EQ(conv.needs({1, 2}, 8), (Rows{1, 4}));
  const RowMap up{1, 2, 0, 0, false};
  EXPECT_EQ(up.needs({3, 6}, 8), (Rows{1, 3}));
  EXPECT_TRUE(conv.needs({2, 2}, 8).empty());
}

}  // namespace
}  // namespace outboard::split
