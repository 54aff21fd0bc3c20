// SPDX-License-Identifier: Apache-2.0
// One server as this process sees it: whether it answers, a client, and one thread that uploads,
// opens sessions and tries again in the background, so that no Run ever waits for any of it.
//
// Thread-safe. Belongs to one Process, which never destroys it (the thread may outlive main()).
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "intercept/common/backoff.h"
#include "intercept/common/link_estimate.h"
#include "wire/client.h"
#include "wire/model_package.h"

namespace outboard::intercept {

class Session;
class Process;

class ServerLink {
 public:
  enum class State : std::uint8_t {
    kUnknown,     // not asked yet
    kUp,          // answers
    kDraining,    // answers, and asked to go elsewhere
    kDown,        // does not answer; asked again in the background
    kSilent,      // a Run waited for it too long; likewise
    kDistrusted,  // its results were wrong; for good
  };

  ServerLink(Process& process, wire::Access server);

  State state() const { return state_.load(std::memory_order_acquire); }
  bool usable() const { return state() == State::kUp || state() == State::kUnknown; }
  const std::string& address() const { return address_; }
  wire::Client& client() { return client_; }

  // What the server says of itself; connects if need be, and notes a failure.
  Result<wire::HelloReply> hello();

  // Opens a session on the server. kNotFound when the server lacks the model and `upload` is false.
  // Blocks for as long as it takes; what the outcome says of the server is noted.
  Result<std::shared_ptr<wire::RemoteSession>> open(const wire::ModelPackage& model,
                                                    const wire::SessionOptions& options,
                                                    bool upload,
                                                    const wire::Client::Progress& progress = {});

  // What a failed request says of the server: after a lost connection or a refusal for load it is
  // left alone until it answers in the background. True when it means that.
  bool note(const Error& error);
  // A Run has waited for so long without a word from it, or for longer than another side took for
  // all of it: left alone until it answers in the background, in the second case `bytes` each way
  // about as fast as before.
  void suspect_silence(double unheard_us);
  void suspect_slowness(double elapsed_us, std::uint64_t bytes);
  // It is not used any more in this process.
  void distrust();

  // Runs that it answered, and Runs that were begun elsewhere as well: what hedging is bounded by.
  std::uint64_t answered() const { return answered_.load(std::memory_order_relaxed); }
  std::uint64_t hedged() const { return hedged_.load(std::memory_order_relaxed); }
  void count_answered() { answered_.fetch_add(1, std::memory_order_relaxed); }
  void count_hedged() { hedged_.fetch_add(1, std::memory_order_relaxed); }

  // What is known of the way there and of the load. Runs tell, and probes in the background while
  // a session could go there and does not: that is what `watch()` asks for, for the next seconds.
  LinkEstimate& estimate() { return estimate_; }
  void watch();
  void probe();  // now, on this thread; a server that does not know probes is not asked again

  // Progress of an upload that nothing waits for: it takes a quarter of the time while Runs go to a
  // server.
  wire::Client::Progress behind_runs();

  // Has the background thread bring this session to the server, once `delay` has passed.
  void enqueue(const std::shared_ptr<Session>& session, std::chrono::milliseconds delay = {});
  void stop();  // ends what is under way in the background; does not wait

 private:
  void start_thread(const std::unique_lock<std::mutex>& lock);
  void work();
  void wait_until_it_answers(std::unique_lock<std::mutex>& lock);
  bool has_due() const;
  std::shared_ptr<Session> next_due(std::unique_lock<std::mutex>& lock);
  void set_state(State state);
  void suspect(const std::string& why, std::uint64_t bytes);
  bool is_fast_enough(std::uint64_t bytes, double limit_us);
  void probe(std::uint64_t bytes);
  bool is_watched() const;

  Process& process_;
  const std::string address_;
  wire::Client client_;
  std::atomic<State> state_{State::kUnknown};
  std::atomic<bool> stopping_{false};
  std::mutex upload_mutex_;  // one upload at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  struct Waiting {
    std::weak_ptr<Session> session;
    Nanoseconds due;
  };
  std::deque<Waiting> queue_;
  Backoff backoff_;
  bool has_thread_ = false;
  LinkEstimate estimate_;
  std::atomic<std::int64_t> watched_until_ns_{0};
  std::atomic<bool> knows_probes_{true};
  std::atomic<std::uint64_t> answered_{0}, hedged_{0};
  // Of kSilent, under mutex_: what has to pass each way before it is used again, and how soon.
  std::uint64_t suspect_bytes_ = 0;
  double suspect_limit_us_ = 0;
};

}  // namespace outboard::intercept
