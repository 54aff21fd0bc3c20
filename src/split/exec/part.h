// SPDX-License-Identifier: Apache-2.0
// One participant of a program at work: its sessions, its buffers, and the threads that keep
// computing and talking apart. Every node of a split inference has one, the host as well.
//
//   OB_TRY(auto part, Part::build(engine, graph, program, host, participant, options));
//   part->attach(2, std::move(connection));   // to every neighbour; or serve(2, connection)
//   part->start();
//   OB_TRY(auto frame, part->begin(inputs));             // the host: one image
//   OB_TRY(auto outputs, part->wait(frame, deadline));   // views into the frame's memory
//   part->release(frame);
//
// One thread computes, one for each neighbour sends, one for each neighbour receives straight into
// the frame's buffers. There is no barrier: a call begins when its rows are there, a message leaves
// when its rows are made. `contexts` frames may be under way at once; a neighbour that runs ahead
// of that waits. Nothing is allocated while frames run, but by the engine.
//
// Thread-safety: begin() and wait() by one thread at a time each; everything else by any.
// Errors: the first one (a lost neighbour, an engine's error, a deadline) fails the part: every
// later call returns it, and all its connections end. A failed part is of no further use.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "split/exec/band_store.h"
#include "split/exec/link_pace.h"
#include "split/exec/steps.h"
#include "wire/connection.h"

namespace outboard::split::exec {

struct PartOptions {
  int contexts = 1;
  int threads = 0;         // of each session; 0: the engine's shared pool
  int block_channels = 0;  // of rows between bands (blocked.h); of all participants the same
  std::shared_ptr<BandStore> bands{};  // where sessions' models and weights are kept; null: nowhere
  Sha256 model{};                      // the graph's, which the store asks for
  // Asked before each session is opened, by the thread that builds: how nice it is to be from then
  // on (base/own_thread.h). May wait.
  std::function<int()> niceness{};
  // How nice the thread is that computes the first frame.
  int first_frame_niceness = 0;
  // > 0: every compute step is stretched to its processor time / pace, before its rows are handed
  // on; so a node of `pace` of this machine's speed is emulated honestly (docs/split.md).
  double pace = 0;
};

// When a frame is not waited for until its deadline: from then on, once for so long no rows have
// come or left and no call was under way; and at any time, if at the rate at which its rows move
// over a link (link_pace.h) they could not all be there by the deadline.
struct FramePatience {
  Deadline from = Deadline::never();  // never: neither
  Nanoseconds silence{0};
};

// When something happened on a node, on its monotonic clock.
struct StepTime {
  int task = -1;  // in the layout
  StepKind kind = StepKind::kCompute;
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;   // of a call: with the copies after it
  std::int64_t copy_ns = 0;  // of that, copying and packing
};

class Part {
 public:
  static Result<std::shared_ptr<Part>> build(engine::Engine& engine,
                                             std::shared_ptr<const Graph> graph,
                                             const Program& program, int host, int participant,
                                             const PartOptions& options);
  ~Part();
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  // The link to a neighbour, before start(). attach(): with a thread that receives; serve(): the
  // calling thread does, until the link or the part ends. `admitted` is called once nobody else
  // can make this link, and before it is used; what it returns ends the part. kInvalid: there is,
  // or was, a link to this neighbour; the part goes on with that one.
  Result<void> attach(int neighbour, std::shared_ptr<wire::Connection> connection);
  Result<void> serve(int neighbour, wire::Connection& connection,
                     const std::function<Result<void>()>& admitted);
  bool linked(int neighbour) const;
  // Neighbours that this participant exchanges rows with, or must report to.
  std::vector<int> neighbours() const;
  void start();

  // ---- the host
  // kTimeout: until then an earlier frame has been in its place.
  Result<std::uint64_t> begin(std::span<const engine::InputView> inputs,
                              Deadline deadline = Deadline::never());
  // kTimeout: it has not ended; the part goes on.
  Result<std::vector<std::span<const std::byte>>> wait(std::uint64_t frame, Deadline deadline,
                                                       FramePatience patience = {});
  void release(std::uint64_t frame);
  // Instead of release(), for a frame that is no longer waited for: it goes on, and what it makes
  // is dropped. abandoned_for(): how long one has gone on so, and no other could begin in its
  // place; 0: none does.
  void abandon(std::uint64_t frame);
  Nanoseconds abandoned_for() const;
  std::uint64_t frames() const;  // that have begun
  // What the other participants said of a frame, and this one's own times; by participant. Waits
  // for reports that are still under way, at most until the deadline.
  std::vector<std::vector<StepTime>> times(std::uint64_t frame, Deadline deadline);

  void fail(const Error& error);
  std::optional<Error> failure() const;
  int lost() const;  // the neighbour whose link broke first; -1

  const Steps& steps() const { return steps_; }
  const Layout& layout() const { return layout_; }
  const Graph& graph() const { return *graph_; }
  // Since rows came, or a call ended.
  Nanoseconds idle_for() const;
  int participants() const { return static_cast<int>(links_.size()); }
  double build_ms() const { return build_ms_; }
  std::uint64_t memory_bytes() const;

 private:
  struct Context {
    std::int64_t frame = -1;
    bool active = false;
    int left = 0;                // steps that are not done
    bool released = true;        // the host has taken its outputs
    Nanoseconds abandoned_at{};  // since then nobody will; 0: not
    std::vector<int> waits;
    std::vector<char> done;
    std::vector<StepTime> times;
    std::shared_ptr<std::byte> memory;
    std::byte* data(const Buffer& b) const { return memory.get() + b.offset; }
  };
  using Work = std::pair<std::int64_t, int>;  // key (frame first), step
  struct Link {
    bool taken = false;  // by a connection, for ever: a part outlives none of its links
    std::shared_ptr<wire::Connection> owned;
    wire::Connection* connection = nullptr;
    std::set<Work> queue;  // messages that may leave
    std::condition_variable changed;
    std::thread sender, receiver;
    std::uint64_t frame_bytes = 0;  // of a frame's rows, both ways
    // The host's, of the newest frame: what was given to the connection, what the other end had
    // before it, whether rows are being read, and how fast they move.
    std::uint64_t leaving_bytes = 0, delivered_bytes = 0;
    bool arriving = false;
    LinkPace pace;
    void start_frame();
    void look(Nanoseconds now);
  };

  Part(std::shared_ptr<const Graph> graph, const PartOptions& options);
  Result<void> open_sessions(engine::Engine& engine, const Program& program);
  Context& context_of(std::int64_t frame) {
    return contexts_[static_cast<std::size_t>(frame) % contexts_.size()];
  }
  Result<Context*> enter(std::int64_t frame, std::unique_lock<std::mutex>& lock,
                         Deadline deadline = Deadline::never());
  void activate(Context& context, std::int64_t frame);
  void finish(Context& context, int step);
  void make_ready(Context& context, int step);
  enum class Frames : std::uint8_t { kAll, kFirst, kLater };
  void compute(Frames frames);
  Result<void> await_end(const Context& context, Deadline deadline, const FramePatience& patience,
                         std::unique_lock<std::mutex>& lock);
  void moved() { moved_ns_ = Clock::monotonic().now().count(); }
  void send_all(int neighbour);
  Result<void> run_step(Context& context, int step);
  void copy(Context& context, const std::vector<Copy>& copies);
  Result<void> receive_rows(int neighbour, wire::Connection& connection,
                            const wire::FrameHeader& header);
  Result<void> receive_report(int neighbour, wire::Connection& connection,
                              const wire::FrameHeader& header);
  Result<void> receive_all(int neighbour, wire::Connection& connection);
  Result<void> take(int neighbour);
  void fail_link(int neighbour, const Error& error);
  void send_report(Context& context);

  const std::shared_ptr<const Graph> graph_;
  const PartOptions options_;
  int host_ = 0;
  double build_ms_ = 0;
  Layout layout_;
  Steps steps_;
  std::vector<std::shared_ptr<engine::Session>> sessions_;  // by step; null for messages
  std::unique_ptr<engine::RunControl> control_;

  mutable std::mutex mutex_;
  std::condition_variable changed_, work_;
  std::vector<Context> contexts_;
  std::set<Work> ready_;                      // calls that may begin
  std::vector<std::unique_ptr<Link>> links_;  // by participant; that of this one is empty
  std::vector<std::vector<StepTime>> reports_;
  std::vector<std::int64_t> reported_;  // the last frame, by participant
  std::optional<Error> failure_;
  int lost_ = -1;
  std::int64_t next_frame_ = 0;
  bool started_ = false;
  int serving_ = 0;
  bool computing_ = false;
  std::atomic<std::int64_t> moved_ns_{0};  // when rows last came or a call ended
  std::thread computer_, first_computer_;
};

}  // namespace outboard::split::exec
