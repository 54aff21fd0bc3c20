// SPDX-License-Identifier: Apache-2.0
#include "tests/split/exec/part_cluster.h"

#include <cmath>
#include <stdexcept>

#include "engine/onnxruntime/engine.h"
#include "wire/transport/endpoint.h"

namespace outboard::split::testing {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

using Ends = std::pair<std::unique_ptr<wire::Stream>, std::unique_ptr<wire::Stream>>;

Result<Ends> make_ends(Transport transport) {
  if (transport == Transport::kPair) return wire::make_stream_pair();
  OB_TRY(const auto listener, wire::listen_on({wire::Endpoint::Kind::kTcp, "127.0.0.1", 0, {}}));
  Ends ends;
  OB_TRY(ends.first, wire::connect_to(listener->local_endpoint(), std::chrono::seconds(5)));
  OB_TRY(ends.second, listener->accept());
  return ends;
}

}  // namespace

engine::Engine* test_engine() {
  static const auto engine = engine::load_onnxruntime({});
  return engine ? engine->get() : nullptr;
}

PartCluster::~PartCluster() {
  for (auto& part : parts) part->fail({ErrorKind::kCancelled, "the test has ended", 0});
}

Result<Values> PartCluster::run(const Values& inputs, Deadline deadline) {
  exec::Part& part = *parts[at(host)];
  const Graph& graph = part.graph();
  OB_TRY(const auto frame, part.begin(views_of(graph, inputs)));
  OB_TRY(const auto outputs, part.wait(frame, deadline));
  Values values;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& t = graph.tensors[at(graph.outputs[i])];
    Value& v = values[t.name];
    v.shape = t.shape;
    if (t.element_type == static_cast<int>(engine::ElementType::kInt64)) {
      v.ints.resize(outputs[i].size() / 8);
      std::memcpy(v.ints.data(), outputs[i].data(), outputs[i].size());
    } else {
      v.floats.resize(outputs[i].size() / 4);
      std::memcpy(v.floats.data(), outputs[i].data(), outputs[i].size());
    }
  }
  part.release(frame);
  return values;
}

Result<std::unique_ptr<PartCluster>> make_cluster(std::shared_ptr<const Graph> graph,
                                                  const Program& program, int host,
                                                  Transport transport,
                                                  const exec::PartOptions& options,
                                                  const Wrap& wrap,
                                                  const std::vector<engine::Engine*>& engines) {
  auto cluster = std::make_unique<PartCluster>();
  cluster->host = host;
  exec::PartOptions one_thread = options;
  one_thread.threads = 1;
  for (int i = 0; i < program.size(); ++i) {
    engine::Engine& engine = engines.empty() ? *test_engine() : *engines[at(i)];
    OB_TRY(auto part, exec::Part::build(engine, graph, program, host, i, one_thread));
    cluster->parts.push_back(std::move(part));
  }
  for (int i = 0; i < program.size(); ++i)
    for (int j : cluster->parts[at(i)]->neighbours()) {
      if (j < i) continue;
      OB_TRY(auto ends, make_ends(transport));
      if (wrap) {
        ends.first = wrap(std::move(ends.first), i, j);
        ends.second = wrap(std::move(ends.second), j, i);
      }
      OB_CHECK_OK(cluster->parts[at(i)]->attach(
          j, std::make_shared<wire::Connection>(std::move(ends.first))));
      OB_CHECK_OK(cluster->parts[at(j)]->attach(
          i, std::make_shared<wire::Connection>(std::move(ends.second))));
    }
  for (auto& part : cluster->parts) part->start();
  return cluster;
}

std::vector<engine::InputView> views_of(const Graph& graph, const Values& inputs) {
  std::vector<engine::InputView> views;
  for (int t : graph.inputs) {
    const Value& v = inputs.at(graph.tensors[at(t)].name);
    const auto type = v.ints.empty() ? engine::ElementType::kFloat : engine::ElementType::kInt64;
    views.push_back(
        {type,
         v.shape,
         v.ints.empty() ? std::as_bytes(std::span(v.floats)) : std::as_bytes(std::span(v.ints)),
         {}});
  }
  return views;
}

std::shared_ptr<const Graph> graph_of_bytes(const std::string& bytes) {
  auto file = OnnxFile::parse(std::as_bytes(std::span(bytes)), ".");
  if (!file) throw std::runtime_error(file.error().message);
  auto graph = build_graph(*file);
  if (!graph) throw std::runtime_error(graph.error().message);
  return std::make_shared<const Graph>(*std::move(graph));
}

std::pair<Program, int> numbered(const Program& program, const Cluster& cluster) {
  Program out = program;
  for (int i = 0; i < program.size(); ++i) out.participants[at(i)] = i;
  return {std::move(out), program.host_index(cluster)};
}

double difference(const Values& got, const Values& want) {
  double worst = 0;
  for (const auto& [name, value] : want) {
    const Value& v = got.at(name);
    if (v.ints != value.ints || v.floats.size() != value.floats.size()) return 1e30;
    double largest = 1e-3, off = 0;
    for (std::size_t i = 0; i < value.floats.size(); ++i) {
      largest = std::max(largest, std::abs(double{value.floats[i]}));
      const double d = std::abs(double{v.floats[i]} - double{value.floats[i]});
      off = std::max(off, std::isnan(d) ? 1e30 : d);
    }
    worst = std::max(worst, off / largest);
  }
  return worst;
}

}  // namespace outboard::split::testing
