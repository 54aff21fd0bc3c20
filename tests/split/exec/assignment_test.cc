// SPDX-License-Identifier: Apache-2.0
// An assignment comes from another machine: every truncation and every change of one byte is
// refused with a sentence, or is a program that can be laid out.
#include "split/exec/assignment.h"

#include <gtest/gtest.h>

#include "split/exec/steps.h"
#include "split/plan/schemes.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"

namespace outboard::split::exec {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

Cluster three_nodes() {
  Cluster c;
  c.nodes.resize(3);
  for (auto& node : c.nodes) node.flops_per_s = 1e9;
  c.links.assign(9, {20, 1e8});
  return c;
}

Assignment example(const Graph& graph) {
  const Cluster cluster = three_nodes();
  Assignment a;
  a.id = {1, 2};
  a.engine = "onnxruntime 1.31.1";
  std::tie(a.program, a.host) = testing::numbered(dpfp(graph, cluster), cluster);
  a.members = {"a:1", "", "c:3"};
  a.members.resize(static_cast<std::size_t>(a.program.size()));
  a.layout = fingerprint(graph, layout_of(graph, a.program, a.host));
  for (int t : graph.inputs)
    a.input_shapes[graph.tensors[static_cast<std::size_t>(t)].name] =
        graph.tensors[static_cast<std::size_t>(t)].shape;
  return a;
}

TEST(Assignment, IsWhatWasSent) {
  const auto graph = testing::graph_of_bytes(testing::random_image_model(12).bytes);
  const Assignment a = example(*graph);
  const auto back = decode_assignment(bytes_of(encode(a)));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(encode(*back), encode(a));
  ASSERT_TRUE(check_program(*graph, back->program));
  EXPECT_EQ(fingerprint(*graph, layout_of(*graph, back->program, back->host)), a.layout);
}

TEST(Assignment, CutOffAnywhereIsRefused) {
  const auto graph = testing::graph_of_bytes(testing::random_image_model(12).bytes);
  const std::string text = encode(example(*graph));
  for (std::size_t n = 0; n < text.size(); ++n)
    EXPECT_FALSE(decode_assignment(bytes_of(text.substr(0, n)))) << n;
  EXPECT_FALSE(decode_assignment(bytes_of(text + "x")));
}

TEST(Assignment, OfAnInputWhoseSizeOverflowsIsRefused) {
  const auto graph = testing::graph_of_bytes(testing::random_image_model(12).bytes);
  Assignment a = example(*graph);
  const std::int64_t most = 1 << 24;
  for (const Shape& shape : {Shape{most, most}, Shape{most, most, most}, Shape(32, most)}) {
    a.input_shapes.begin()->second = shape;
    const auto back = decode_assignment(bytes_of(encode(a)));
    ASSERT_FALSE(back) << shape.size();
    EXPECT_EQ(back.error().kind, ErrorKind::kInvalid);
  }
}

TEST(Assignment, WithAWrongByteIsRefusedOrCanBeLaidOut) {
  const auto graph = testing::graph_of_bytes(testing::random_image_model(12).bytes);
  const std::string text = encode(example(*graph));
  int refused = 0;
  for (std::size_t n = 0; n < text.size(); ++n)
    for (const int change : {1, 0x80, 0xff}) {
      std::string wrong = text;
      wrong[n] = static_cast<char>(wrong[n] ^ change);
      const auto a = decode_assignment(bytes_of(wrong));
      if (!a || !check_program(*graph, a->program)) {
        ++refused;
        continue;
      }
      const Layout layout = layout_of(*graph, a->program, a->host);
      (void)compile(*graph, a->program, layout, a->host, a->participant);
    }
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace outboard::split::exec
