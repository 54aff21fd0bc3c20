// SPDX-License-Identifier: Apache-2.0
// One plan, set up over real nodes: every participant has its part, all are linked, frames may run.
// The host's side.
//
//   OB_TRY(auto crew, Crew::set_up(engine, graph, program, nodes, options));
//   OB_TRY(auto outputs, crew->run(inputs, deadline));    // copies of the model's outputs
//
// Thread-safety: run() by one thread at a time; the rest by any.
// Errors: set_up: what a node said, with its name; run: what failed the plan. A crew that has
// failed is of no further use.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "split/exec/node.h"
#include "wire/client.h"
#include "wire/model_package.h"

namespace outboard::split::exec {

// A node of the cluster as the host reaches it; the host itself has no client.
struct Member {
  std::string name;
  std::string address;
  std::shared_ptr<wire::Client> client;
  double pace = 0;  // PartOptions
};

struct CrewOptions {
  int contexts = 1;
  int threads = 0;
  int block_channels = 0;
  std::shared_ptr<BandStore> bands{};  // the host's (PartOptions), as the next two
  std::function<int()> niceness{};
  int first_frame_niceness = 0;
};

class Crew {
 public:
  // `culprit`: the member that an error is about, or -1.
  // `program`: its participants are indices into `members`, `host` is one of them. `package` may be
  // null where the host is the only participant.
  static Result<std::unique_ptr<Crew>> set_up(engine::Engine& engine,
                                              const std::shared_ptr<const Graph>& graph,
                                              const wire::ModelPackage* package,
                                              const Program& program,
                                              std::span<const Member> members, int host,
                                              const CrewOptions& options, int* culprit = nullptr);
  ~Crew();

  struct Outputs {
    std::vector<std::span<const std::byte>> views;  // in the order of Graph::outputs
    std::uint64_t frame = 0;
  };
  // Views hold until release(). A frame that has not ended in time (kTimeout) is abandoned
  // (part.h).
  Result<Outputs> run(std::span<const engine::InputView> inputs, Deadline deadline,
                      FramePatience patience = {});
  void release(const Outputs& outputs) { part_->release(outputs.frame); }
  Part& part() const { return *part_; }
  // Tells the other participants that the host is there; they give up one that is silent.
  void say_alive();

  const Program& program() const { return program_; }  // participants: members
  // The member whose link broke first; -1 when none did.
  int lost_member() const;
  double set_up_ms() const { return set_up_ms_; }
  // What each participant took to open its sessions.
  const std::vector<double>& build_ms() const { return build_ms_; }

 private:
  explicit Crew(Program program) : program_(std::move(program)) {}

  Program program_;
  std::shared_ptr<Part> part_;
  std::vector<std::shared_ptr<wire::Connection>> connections_;  // by participant
  double set_up_ms_ = 0;
  std::vector<double> build_ms_;
};

// Brings a model to a node that lacks it.
Result<void> provide_model(wire::Client& client, const wire::ModelPackage& package);

// Whether two sets of outputs are equal within float rounding: the largest difference over the
// largest value of each output. Infinite for outputs that are not floats and not equal.
double difference(const Graph& graph, std::span<const std::span<const std::byte>> a,
                  std::span<const std::span<const std::byte>> b);
inline constexpr double kRounding = 1e-4;

}  // namespace outboard::split::exec
