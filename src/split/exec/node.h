// SPDX-License-Identifier: Apache-2.0
// What a server does as a participant of others' split inferences: builds the part that it is
// assigned, links it to its neighbours, and gives it up when the host goes. The server hands its
// connections' requests of the kinds "split ..." here (docs/wire.md).
//
// Thread-safe. Lifetime: engine and the functions of NodeOptions are borrowed.
// Errors: sentences for the host: another engine, another model, a layout that differs (another
// version), not enough memory, a neighbour that this server does not know.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/engine.h"
#include "split/exec/assignment.h"
#include "split/exec/part.h"

namespace outboard::split::exec {

// A model that is held open for as long as its holder lives.
struct HeldModel {
  std::string path;
  std::shared_ptr<void> pin;
};

// Where a request's model is: the store of whoever asks.
using ModelSource = std::function<Result<HeldModel>(const Sha256&)>;

struct NodeOptions {
  // A connection to another participant, its handshake done. kRefused: not one of this server's
  // peers.
  std::function<Result<std::shared_ptr<wire::Connection>>(const std::string& address)> connect;
  std::uint64_t memory_limit_bytes = 0;  // of each part; 0: none
  std::size_t max_parts = 16;
  // A part whose host has not joined by then makes room for another.
  std::chrono::milliseconds time_to_join = std::chrono::minutes(5);
  int threads = 0;                     // PartOptions
  std::shared_ptr<BandStore> bands{};  // PartOptions
};

class Node {
 public:
  Node(engine::Engine& engine, NodeOptions options);
  ~Node();

  // A request's payload in, a reply's payload out. `built`: the plan whose part there is now; who
  // asked calls abandon() with it when the connection ends.
  Result<std::string> assign(std::span<const std::byte> payload, const ModelSource& models,
                             PlanId* built = nullptr);
  // Gives up the plan's part unless the host has joined it.
  void abandon(const PlanId& id);
  Result<std::string> connect(std::span<const std::byte> payload);
  // Time against rows of a model here, as profile JSON; slow the first time
  // (measure.h), then from memory.
  Result<std::string> measure(std::span<const std::byte> payload, const ModelSource& models);

  // A neighbour's request to turn its connection into a link. `accepted` sends the reply; then the
  // calling thread serves the link until it ends.
  Result<void> join(std::span<const std::byte> payload, wire::Connection& connection,
                    const std::function<Result<void>()>& accepted);

  std::size_t parts() const;

 private:
  struct Entry {
    std::shared_ptr<Part> part;
    Assignment assignment;
    HeldModel model;
    Nanoseconds built{};
  };
  std::shared_ptr<Entry> find(const PlanId& id) const;
  void drop(const PlanId& id);
  void clear_out();
  int own_block_channels();
  Result<void> check_room(const PlanId& id) const;
  int niceness() const;

  engine::Engine& engine_;
  const NodeOptions options_;
  mutable std::mutex mutex_;
  std::map<PlanId, std::shared_ptr<Entry>> entries_;
  std::map<std::string, std::string> measured_;
  std::mutex blocks_mutex_;
  int block_channels_ = 0;
};

// One request on a connection of one's own, and its reply's payload; an error frame is the Error
// that it carries.
Result<std::string> exchange(wire::Connection& connection, wire::FrameKind kind,
                             std::string_view payload, wire::FrameKind expected);

// "onnxruntime 1.31.1"
std::string name_and_version(const engine::Engine& engine);
ShapeMap input_shapes(const Graph& graph);
// The graph of a model with the shapes that this engine infers.
Result<std::shared_ptr<const Graph>> open_graph(engine::Engine& engine, const std::string& path,
                                                const ShapeMap& input_shapes);
// Shapes of every tensor of the graph as the engine infers them; what it cannot tell is left out.
Result<ShapeMap> engine_shapes(engine::Engine& engine, const Graph& graph);

}  // namespace outboard::split::exec
