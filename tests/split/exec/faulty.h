// SPDX-License-Identifier: Apache-2.0
// What can happen to a node between two of its messages, put between it and all its connections.
// Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>

#include "wire/transport/stream.h"

namespace outboard::split::testing {

enum class Fault {
  kKilled,    // all its connections end, new ones too
  kStopped,   // it neither reads nor writes, as after SIGSTOP; its connections stay
  kCut,       // what it sends and what is sent to it is lost, and nobody is told
  kLinkEnds,  // the connection of that one message ends, and the message with it
  kTrickles,  // what it sends leaves a byte in a millisecond
};

class Faults : public std::enable_shared_from_this<Faults> {
 public:
  // From its n-th message on (the first is 1) the fault is there, until heal().
  void arm(Fault fault, int message);
  void heal();
  int writes() const;  // so far
  std::unique_ptr<wire::Stream> wrap(std::unique_ptr<wire::Stream> stream);

 private:
  class Faulty;
  // Whether the message may leave; false: it is lost.
  bool before_write(Faulty& stream);
  bool trickles(const Faulty& stream);
  void after_read(const Faulty& stream, bool& lost);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Faulty*> streams_;
  Fault fault_ = Fault::kKilled;
  int left_ = 0, writes_ = 0;
  bool active_ = false;
};

}  // namespace outboard::split::testing
