// SPDX-License-Identifier: Apache-2.0
// One worker process as the server has it: started, talked to, watched, ended.
//
//   auto worker = Worker::start(settings);            // returns when the process is there
//   OB_TRY(const auto facts, worker->greet());        // when it serves, in its sandbox
//   OB_TRY(auto session, worker->open(files, options));
//   { const Worker::Limit limit(*worker, time, "a Run"); session.runs->run(...); }
//
// A thread of its own started the process (which ends with it, however the server ends), passes its
// lines on to the server's log, ends it when something that has a Limit takes longer, and reaps it.
// Thread-safe. Errors: kDisconnected and the like when the process has ended; how_it_ended() has
// the sentence then.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "serve/worker/handover.h"
#include "wire/client.h"

namespace outboard::serve {

// How a program is started as a worker; it calls run_worker() (inside.h).
struct WorkerStart {
  std::vector<std::string> command;  // its path, and arguments
  std::string tenant;                // for the log
  Nanoseconds idle_time{};           // without a session it ends after so long
  double weight = 1;                 // of the tenant
};

class Worker {
 public:
  // kOverloaded: no process, no descriptors.
  static Result<std::shared_ptr<Worker>> start(WorkerStart start);
  ~Worker();  // ends the process
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  Result<wire::HelloReply> greet() { return keeper_.hello(); }

  struct File {
    std::string name;  // the first is "model"
    wire::FileDescriptor descriptor;
  };
  // A model open in the worker. The second session is open for as long, whatever becomes of the
  // connections that Runs use.
  struct Opened {
    std::shared_ptr<wire::RemoteSession> runs, keeps;
    Sha256 model{};
  };
  // `to_show`: not to be run (handed_models.h).
  Result<Opened> open(const std::vector<File>& files, const wire::SessionOptions& options,
                      bool to_show = false);
  // The same session with its tensors in place, in memories that were handed (worker_memory.h).
  Result<Opened> open_placed(const Opened& opened, const wire::SessionOptions& options);
  Result<void> hand_memory(std::uint64_t number, int descriptor);  // once
  void forget_memory(std::uint64_t number);

  // A session begins to use the worker; false: it has ended, or is about to.
  bool enter();
  void leave();

  struct UnderWay {
    Nanoseconds until{};
    const char* what = "";
    std::uint64_t request_id = 0;
  };
  // Ends the process if what it stands for takes longer than `time`.
  class Limit {
   public:
    // `request_id`: of a Run, for the log.
    Limit(Worker& worker, Nanoseconds time, const char* what, std::uint64_t request_id = 0);
    ~Limit();
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;

   private:
    friend class Worker;
    Worker& worker_;
    std::list<UnderWay>::iterator entry_;
  };

  // Ends it, if nothing is under way: false else. What is left of its sessions opens elsewhere.
  // `only_unused`: false, too, where a session uses it.
  bool retire_if_quiet(bool only_unused = false);
  // Ends it at once; `why` is what callers hear.
  void end(const std::string& why);

  // After a call has failed: waits until the process is gone where it is about to be, and says how
  // it ended. nullopt: it is alive.
  struct End {
    std::string sentence;
    bool expected = false;   // the server wanted it
    bool at_limit = false;   // something took too long, or was not the protocol's
    std::size_t others = 0;  // beside the caller's, what was under way
    Nanoseconds lived{};
  };
  std::optional<End> how_it_ended(Nanoseconds patience);
  bool has_ended() const { return ended_.load(); }

  pid_t pid() const { return pid_; }
  std::string tenant() const;
  double weight() const;
  void belongs_to(const std::string& tenant, double weight);  // one that was started ahead
  // The priority of all its threads; false: it is not allowed, or the process has ended.
  bool set_nice(int nice);
  // Whether all its threads get only what nobody else wants of the processor. To be called again
  // and again: a thread that is being made may be missed once.
  void set_yields(bool yields);
  Nanoseconds cpu_time() const;  // of all its threads; zero: it has ended
  std::uint64_t resident_bytes() const;
  std::size_t sessions() const;
  Nanoseconds last_used() const { return Nanoseconds(last_used_ns_.load()); }

 private:
  explicit Worker(WorkerStart start);
  Result<void> spawn();
  void watch();
  bool is_gone() const;
  ssize_t read_output(std::string& pending) const;
  void pass_lines_on(std::string& pending);
  bool look_at_limits(Nanoseconds now);
  std::string under_way() const;  // ids
  bool reap();                    // whether it has ended
  Result<std::unique_ptr<wire::Stream>> connect();
  Result<void> hand_over(const Handover& handover, int descriptor);
  Result<Opened> open_both(const Sha256& model, const wire::SessionOptions& options);

  WorkerStart start_;
  const Nanoseconds started_ = Clock::monotonic().now();
  pid_t pid_ = -1;
  wire::FileDescriptor output_;  // what the process writes to its log
  // Of the thread: lines that came since the last look at them, and when the next one is.
  std::size_t lines_ = 0;
  Nanoseconds next_look_{};
  std::mutex handover_mutex_;
  wire::FileDescriptor handover_;
  std::atomic<std::uint64_t> next_model_{1};
  std::atomic<std::int64_t> last_used_ns_{started_.count()};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<UnderWay> limits_;
  std::size_t sessions_ = 0;
  std::set<std::uint64_t> memories_;  // that it has
  Nanoseconds idle_since_ = started_;
  bool retiring_ = false;
  bool yields_ = false;
  int yields_to_be_set_ = 0;  // times
  Nanoseconds kill_at_ = Nanoseconds::max();
  std::string why_;  // ended by the server
  std::string last_line_;
  std::optional<End> end_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
  wire::Client runs_, keeper_;  // last: they use what is above
};

}  // namespace outboard::serve
