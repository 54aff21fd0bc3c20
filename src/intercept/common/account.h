// SPDX-License-Identifier: Apache-2.0
// The account of one session: where its Runs went and why, how long they took, what they moved.
// Thread-safe. Kept after the session has ended, for the reports at exit.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "intercept/common/choose.h"
#include "intercept/common/histogram.h"
#include "wire/client.h"

namespace outboard::intercept {

// Who answered a Run that was begun on two sides.
enum class HedgeWinner : std::uint8_t { kFirst, kHere, kOtherServer };

// A copy of an account's figures at one moment; times of server Runs are sums in nanoseconds.
struct AccountFigures {
  std::uint64_t id = 0;
  std::string model, sha256, server, why_local;
  std::uint64_t model_bytes = 0;
  bool is_discarded = false;
  std::uint64_t server_runs = 0, local_runs = 0, failed_runs = 0, replayed_runs = 0;
  std::array<std::uint64_t, kLocalReasons> local_by_reason{};
  std::uint64_t local_opened = 0, local_given_back = 0;  // sessions of the model, here
  std::uint64_t hedged_runs = 0;  // begun on a second side, and who answered them:
  std::uint64_t hedges_won_here = 0, hedges_won_elsewhere = 0;
  std::uint64_t deadline_missed_runs = 0;
  std::uint64_t explored_runs = 0, explored_ns = 0;                          // see explored_run()
  std::uint64_t verified_runs = 0, differing_runs = 0, unverified_runs = 0;  // of --verify
  std::string difference;  // the first one, a sentence
  Histogram server_time, local_time;
  std::uint64_t send_ns = 0, wait_ns = 0, receive_ns = 0;
  std::uint64_t server_receive_ns = 0, queue_ns = 0, compute_ns = 0;
  std::uint64_t bytes_sent = 0, bytes_received = 0;
  std::uint64_t raw_bytes_sent = 0, raw_bytes_received = 0;  // without coding
  std::uint64_t encode_ns = 0, decode_ns = 0;
  std::uint32_t codings = 0;  // wire::names_of()
};

class Account {
 public:
  Account(std::uint64_t id, std::string model);

  std::uint64_t id() const { return id_; }
  void set_model(std::string_view sha256, std::uint64_t bytes);
  void set_server(std::string_view address);
  void set_why_local(std::string_view reason);  // why the session cannot go out
  void discard();                               // there is no such session after all

  void server_run(std::uint64_t time_ns, const wire::RunAccount& run);
  // `replayed`: the server was tried first and lost.
  void local_run(std::uint64_t time_ns, LocalReason reason, bool replayed);
  void failed_run();
  void hedged_run(HedgeWinner winner);
  void missed_deadline();
  // A Run was sent to a side to learn what it takes there, and took so much longer than it was
  // expected to elsewhere.
  void explored_run(std::uint64_t more_ns);
  void verified_run();
  void differing_run(std::string_view difference);
  void unverified_run();  // it could not be done here as well
  void opened_local();
  void gave_local_back();

  AccountFigures figures() const;

 private:
  const std::uint64_t id_;
  mutable std::mutex mutex_;
  AccountFigures figures_;
};

}  // namespace outboard::intercept
