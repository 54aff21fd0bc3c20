// SPDX-License-Identifier: Apache-2.0
#include "split/exec/node.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/cursor.h"
#include "base/log.h"
#include "base/own_thread.h"
#include "profile/json/rows.h"
#include "split/exec/blocked.h"
#include "split/exec/measure.h"
#include "split/graph/emit.h"
#include "wire/messages.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace

std::string name_and_version(const engine::Engine& engine) {
  return engine.name() + " " + engine.version();
}

ShapeMap input_shapes(const Graph& graph) {
  ShapeMap shapes;
  for (int t : graph.inputs) shapes[graph.tensors[at(t)].name] = graph.tensors[at(t)].shape;
  return shapes;
}

Result<ShapeMap> engine_shapes(engine::Engine& engine, const Graph& graph) {
  const std::string probe = shape_probe(graph);
  engine::OpenOptions options;
  options.graph_optimization_level = 0;
  OB_TRY(const auto session, engine.open_bytes(std::as_bytes(std::span(probe)), options));
  ShapeMap shapes;
  for (const auto& output : session->info().outputs)
    if (output.has_shape &&
        std::all_of(output.dims.begin(), output.dims.end(), [](auto d) { return d > 0; }))
      shapes[output.name] = output.dims;
  return shapes;
}

Result<std::shared_ptr<const Graph>> open_graph(engine::Engine& engine, const std::string& path,
                                                const ShapeMap& input_shapes) {
  OB_TRY(const auto file, OnnxFile::open(path));
  GraphOptions options;
  options.input_shapes = input_shapes;
  OB_TRY(auto graph, build_graph(file, options));
  if (auto shapes = engine_shapes(engine, graph)) {
    options.shapes = *std::move(shapes);
    OB_TRY(graph, build_graph(file, options));
  }
  return std::make_shared<const Graph>(std::move(graph));
}

Result<std::string> exchange(wire::Connection& connection, wire::FrameKind kind,
                             std::string_view payload, wire::FrameKind expected) {
  OB_CHECK_OK(connection.send({.kind = kind, .request_id = 1}, payload));
  for (;;) {
    OB_TRY(const auto header, connection.receive_header());
    auto body = connection.read_string(header.length);
    if (!body) return body;
    if (header.kind == wire::FrameKind::kHeartbeat) continue;
    if (header.kind == expected) return body;
    if (header.kind != wire::FrameKind::kError)
      return error(ErrorKind::kInvalid, "the answer ({}) must be a {}", wire::name_of(header.kind),
                   wire::name_of(expected));
    OB_TRY(Error said, wire::decode_error(as_byte_span(*body)));
    return tl::make_unexpected(std::move(said));
  }
}

Node::Node(engine::Engine& engine, NodeOptions options)
    : engine_(engine), options_(std::move(options)) {}

Node::~Node() {
  std::map<PlanId, std::shared_ptr<Entry>> entries;
  {
    const std::lock_guard lock(mutex_);
    entries.swap(entries_);
  }
  for (auto& [id, entry] : entries)
    entry->part->fail({ErrorKind::kDisconnected, "the server stops", 0});
}

Result<std::string> Node::assign(std::span<const std::byte> payload, const ModelSource& models,
                                 PlanId* built) {
  OB_TRY(Assignment a, decode_assignment(payload));
  if (a.engine != name_and_version(engine_))
    return error(ErrorKind::kRefused,
                 "this node computes with another engine ({}) than the host ({}), and rows from "
                 "both would not be exactly alike",
                 name_and_version(engine_), a.engine);
  if (a.block_channels > 0 && a.block_channels != own_block_channels())
    return error(ErrorKind::kUnimplemented,
                 "this node does not compute in blocks of ({}) channels, as the host does",
                 a.block_channels);
  OB_TRY(HeldModel model, models(a.model));
  OB_TRY(auto graph, exec::open_graph(engine_, model.path, a.input_shapes));
  OB_CHECK_OK(check_program(*graph, a.program));
  const Layout layout = layout_of(*graph, a.program, a.host);
  if (fingerprint(*graph, layout) != a.layout)
    return error(ErrorKind::kRefused,
                 "this node builds another layout from the plan than the host; are both of one "
                 "version of Outboard?");
  const double needed = layout.memory_bytes[at(a.participant)];
  if (options_.memory_limit_bytes > 0 && needed > static_cast<double>(options_.memory_limit_bytes))
    return error(ErrorKind::kRefused,
                 "this node is too small for its part: {:.0f} MB are needed and it gives {:.0f}",
                 needed / 1e6, static_cast<double>(options_.memory_limit_bytes) / 1e6);
  clear_out();
  {
    const std::lock_guard lock(mutex_);
    OB_CHECK_OK(check_room(a.id));
  }
  OB_TRY(auto part, on_own_thread([&] {
           return Part::build(engine_, graph, a.program, a.host, a.participant,
                              {.contexts = a.contexts,
                               .threads = options_.threads,
                               .block_channels = a.block_channels,
                               .bands = options_.bands,
                               .model = a.model,
                               .niceness = [this] { return niceness(); },
                               .pace = a.pace});
         }));
  const Ready ready{part->build_ms(), part->memory_bytes()};
  log_info("split part built participant={} of={} pieces={} ms={:.1f} memory_bytes={}",
           a.participant, a.program.size(), part->steps().steps.size(), ready.build_ms,
           ready.memory_bytes);
  const PlanId id = a.id;
  const std::lock_guard lock(mutex_);
  OB_CHECK_OK(check_room(id));  // others have built meanwhile
  entries_[id] = std::make_shared<Entry>(
      Entry{std::move(part), std::move(a), std::move(model), Clock::monotonic().now()});
  if (built != nullptr) *built = id;
  return encode(ready);
}

// Asking the engine opens two models, and the answer does not change; that there are none may have
// been a worker's end.
int Node::own_block_channels() {
  const std::lock_guard lock(blocks_mutex_);
  if (block_channels_ == 0) block_channels_ = block_channels(engine_);
  return block_channels_;
}

// With the mutex held.
Result<void> Node::check_room(const PlanId& id) const {
  if (entries_.contains(id))
    return error(ErrorKind::kInvalid, "this node has a part of that plan already");
  if (entries_.size() >= options_.max_parts)
    return error(ErrorKind::kOverloaded, "this node has as many parts as it may ({})",
                 options_.max_parts);
  return {};
}

// Parts that have failed, and those whose host never came: where another node refuses its part the
// host gives the plan up, and its connection may outlive that. They end outside the lock, as
// ~Part joins threads.
void Node::clear_out() {
  std::vector<std::shared_ptr<Entry>> late, gone;
  {
    const std::lock_guard lock(mutex_);
    const Nanoseconds now = Clock::monotonic().now();
    std::erase_if(entries_, [&](const auto& e) {
      const Entry& entry = *e.second;
      const bool failed = entry.part->failure().has_value();
      if (!failed &&
          (entry.part->linked(entry.assignment.host) || now - entry.built < options_.time_to_join))
        return false;
      (failed ? gone : late).push_back(e.second);
      return true;
    });
  }
  for (const auto& entry : late)
    entry->part->fail({ErrorKind::kTimeout, "the host did not join in time", 0});
}

void Node::abandon(const PlanId& id) {
  const auto entry = find(id);
  if (!entry || entry->part->linked(entry->assignment.host)) return;
  entry->part->fail({ErrorKind::kDisconnected, "the host left before it joined", 0});
  drop(id);
}

// Of work for a plan that is not in use yet: it shall not slow frames of one that is. A tenth of a
// core, so that it comes to an end beside frames that leave nothing.
int Node::niceness() const {
  constexpr int kBesideFrames = 10;
  constexpr std::chrono::seconds kInUse{1};
  const std::lock_guard lock(mutex_);
  const bool computes = std::any_of(entries_.begin(), entries_.end(), [&](const auto& e) {
    return e.second->part->idle_for() < kInUse;
  });
  return computes ? kBesideFrames : 0;
}

std::shared_ptr<Node::Entry> Node::find(const PlanId& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second;
}

void Node::drop(const PlanId& id) {
  std::shared_ptr<Entry> entry;
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(id); found != entries_.end()) {
    entry = std::move(found->second);
    entries_.erase(found);
  }
}

std::size_t Node::parts() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

// Every pair of neighbours is linked once: the one with the lower number calls; the host calls all.
Result<std::string> Node::connect(std::span<const std::byte> payload) {
  OB_TRY(const PlanId id, decode_plan_id(payload));
  const auto entry = find(id);
  if (!entry) return error(ErrorKind::kNotFound, "this node has no part of that plan");
  const Assignment& a = entry->assignment;
  for (int other : entry->part->neighbours()) {
    if (other == a.host || other < a.participant || entry->part->linked(other)) continue;
    const std::string& address = a.members[at(other)];
    auto connection = options_.connect(address);
    if (!connection)
      return tl::make_unexpected(
          std::move(connection)
              .error()
              .while_doing(
                  fmt::format("linking up with the participant ({}) at {}", other, address)));
    if (auto joined = exchange(**connection, wire::FrameKind::kSplitJoin,
                               encode(Join{id, a.participant}), wire::FrameKind::kSplitJoined);
        !joined)
      return tl::make_unexpected(std::move(joined).error().while_doing(
          fmt::format("linking up with the participant ({}) at {}", other, address)));
    OB_CHECK_OK(entry->part->attach(other, *std::move(connection)));
  }
  return std::string();
}

Result<void> Node::join(std::span<const std::byte> payload, wire::Connection& connection,
                        const std::function<Result<void>()>& accepted) {
  OB_TRY(const Join join, decode_join(payload));
  const auto entry = find(join.id);
  if (!entry) return error(ErrorKind::kNotFound, "this node has no part of that plan");
  const auto neighbours = entry->part->neighbours();
  if (std::find(neighbours.begin(), neighbours.end(), join.from) == neighbours.end())
    return error(ErrorKind::kInvalid, "the participant ({}) is no neighbour", join.from);
  const bool is_host = join.from == entry->assignment.host;
  bool admitted = false;
  auto ended = entry->part->serve(join.from, connection, [&]() -> Result<void> {
    admitted = true;
    OB_CHECK_OK(accepted());
    // The host joins last: everything is linked, and frames may come.
    if (is_host) entry->part->start();
    return {};
  });
  if (!admitted) return ended;
  if (is_host) drop(join.id);
  log_info("split link ended from={} reason=\"{}\"", join.from, ended ? "" : ended.error().message);
  return ended;
}

Result<std::string> Node::measure(std::span<const std::byte> payload, const ModelSource& models) {
  OB_TRY(Assignment a, decode_assignment(payload));
  OB_TRY(const HeldModel model, models(a.model));
  if (a.block_channels > 0 && a.block_channels != own_block_channels()) a.block_channels = 0;
  std::string key = a.model.hex() + "/" + std::to_string(a.block_channels);
  for (const auto& [name, shape] : a.input_shapes) {
    key += "/" + name;
    for (auto d : shape) key += "," + std::to_string(d);
  }
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = measured_.find(key); found != measured_.end()) return found->second;
  }
  OB_TRY(const auto graph, exec::open_graph(engine_, model.path, a.input_shapes));
  const std::atomic<bool> never{false};
  const BandOptions bands{.channels = a.block_channels,
                          .threads = options_.threads,
                          .store = options_.bands,
                          .model = a.model};
  OB_TRY(const auto node, on_own_thread([&] {
           be_nice(niceness());
           return known_rows(engine_, *graph, bands, never);
         }));
  const std::string text = profile::as_json(node).dump();
  const std::lock_guard lock(mutex_);
  return measured_[key] = text;
}

}  // namespace outboard::split::exec
