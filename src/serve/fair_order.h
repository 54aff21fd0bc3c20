// SPDX-License-Identifier: Apache-2.0
// Who is next: device time shared by weight between flows (tenants), earliest deadline first within
// a flow, first come first served among equals. Pure: no clock, no thread, no lock.
//
// Start-time fair queueing (Goyal, Vin, Cheng: "Start-time fair queueing", SIGCOMM 1996): every
// flow has a tag in virtual time, at which its next request may start. The lowest tag is next; the
// system's virtual time v is the highest tag that was started so far. A request that costs c raises
// its flow's tag by c / weight. The cost is an estimate when a request starts, put right at its
// end.
//
// What differs from the paper: a flow that comes back from being idle starts at v less a credit,
// not at v. What it left to the others it may have later, up to the credit, so that requests that
// arrive in a clump do not each wait for one of a flood's: with one server that cannot be
// interrupted, a flow that stays within its share waits for the one service that is under way, and
// for its own requests. A flow that always has something waiting has no credit, and one with credit
// is never behind one that has used up its own. When nobody wants the device, all are even again.
//
// Thread-safety: none. Entries and flows are borrowed; an entry that waits must be removed or
// popped before it dies, a flow must outlive its entries.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>

#include "base/clock.h"

namespace outboard::serve {

class FairOrder;

// One tenant's share.
class FairFlow {
 public:
  explicit FairFlow(double weight = 1) : weight_(weight) {}
  FairFlow(const FairFlow&) = delete;
  FairFlow& operator=(const FairFlow&) = delete;
  void set_weight(double weight) { weight_ = weight; }  // positive; of what starts from now on

 private:
  friend class FairOrder;
  struct Sooner {
    bool operator()(const struct FairEntry* a, const struct FairEntry* b) const;
  };
  double weight_;
  double tag_ns_ = 0;        // virtual time at which its next request may start
  double mean_cost_ns_ = 0;  // of what has ended: the estimate for the next
  std::uint64_t in_service_ = 0;
  std::set<FairEntry*, Sooner> waiting_;
};

// One request.
struct FairEntry {
  FairFlow* flow = nullptr;
  Nanoseconds deadline = Nanoseconds::max();  // max: none
  void* owner = nullptr;                      // whatever the caller finds its request by

 private:
  friend class FairOrder;
  friend class FairFlow;
  std::uint64_t sequence_ = 0;
  double charged_ns_ = 0;
  double charged_weight_ = 1;
};

class FairOrder {
 public:
  // In virtual time: of device time, as much for each unit of weight.
  static constexpr Nanoseconds kCredit = std::chrono::milliseconds(250);

  void start(FairEntry& entry);   // is served at once, which it may be while nobody waits
  void push(FairEntry& entry);    // waits from now on
  FairEntry* pop();               // is served from now on; nullptr: nobody waits
  void remove(FairEntry& entry);  // one that waits does so no more
  void finish(FairEntry& entry, Nanoseconds cost);  // one that was served has ended
  bool empty() const { return flows_.empty(); }
  // Requests of this flow that wait or are served.
  static std::uint64_t depth(const FairFlow& flow) {
    return flow.waiting_.size() + flow.in_service_;
  }

 private:
  void come_back(FairFlow& flow) const;
  void charge(FairEntry& entry);

  std::set<FairFlow*> flows_;  // those that have something waiting; few
  double virtual_ns_ = 0, highest_tag_ns_ = 0;
  std::uint64_t in_service_ = 0;
  std::uint64_t next_sequence_ = 1;
};

}  // namespace outboard::serve
