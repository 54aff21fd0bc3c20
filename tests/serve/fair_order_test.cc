// SPDX-License-Identifier: Apache-2.0
// The discipline of the device's queue, in simulated time: devices that cannot interrupt a Run,
// tenants that ask now and then, and one that floods.
#include "serve/fair_order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <vector>

namespace outboard::serve {
namespace {

Nanoseconds milliseconds(double ms) {
  return Nanoseconds(static_cast<std::int64_t>(std::llround(ms * 1e6)));
}

// What a tenant does: asks at these times, or keeps so many requests in the queue all the time.
struct Behaviour {
  double weight = 1;
  std::vector<double> service_ms;  // of its requests, in turn
  std::vector<double> arrivals_ms;
  int flood = 0;
};

struct Outcome {
  std::vector<double> response_ms;
  double served_ms = 0;
};

// A device with `slots` servers, until `end_ms`.
std::vector<Outcome> simulate(const std::vector<Behaviour>& tenants, int slots, double end_ms) {
  struct Request {
    FairEntry entry;
    std::size_t tenant;
    double arrived_ms, service_ms;
  };
  std::vector<std::unique_ptr<FairFlow>> flows;
  for (const Behaviour& tenant : tenants)
    flows.push_back(std::make_unique<FairFlow>(tenant.weight));
  std::deque<Request> requests;
  std::vector<std::size_t> made(tenants.size(), 0);
  std::vector<Outcome> outcomes(tenants.size());
  FairOrder order;
  using Event = std::pair<double, Request*>;  // a departure
  std::priority_queue<Event, std::vector<Event>, std::greater<>> departures;
  const auto arrive = [&](std::size_t t, double now_ms) {
    const auto& services = tenants[t].service_ms;
    Request& request = requests.emplace_back();
    request.tenant = t;
    request.arrived_ms = now_ms;
    request.service_ms = services[made[t]++ % services.size()];
    request.entry.flow = flows[t].get();
    request.entry.owner = &request;
    order.push(request.entry);
  };
  const auto serve = [&](double now_ms) {
    while (static_cast<int>(departures.size()) < slots) {
      FairEntry* entry = order.pop();
      if (entry == nullptr) return;
      auto* request = static_cast<Request*>(entry->owner);
      departures.emplace(now_ms + request->service_ms, request);
    }
  };
  for (std::size_t t = 0; t < tenants.size(); ++t)
    for (int i = 0; i < tenants[t].flood; ++i) arrive(t, 0);
  serve(0);
  std::vector<std::size_t> next(tenants.size(), 0);
  for (;;) {
    double now_ms = end_ms;
    std::size_t who = tenants.size();
    for (std::size_t t = 0; t < tenants.size(); ++t)
      if (next[t] < tenants[t].arrivals_ms.size() && tenants[t].arrivals_ms[next[t]] < now_ms) {
        now_ms = tenants[t].arrivals_ms[next[t]];
        who = t;
      }
    if (!departures.empty() && departures.top().first <= now_ms) {
      const auto [at_ms, request] = departures.top();
      departures.pop();
      Outcome& outcome = outcomes[request->tenant];
      outcome.response_ms.push_back(at_ms - request->arrived_ms);
      outcome.served_ms += request->service_ms;
      order.finish(request->entry, milliseconds(request->service_ms));
      if (tenants[request->tenant].flood > 0) arrive(request->tenant, at_ms);
      serve(at_ms);
      continue;
    }
    if (who == tenants.size()) break;
    ++next[who];
    arrive(who, now_ms);
    serve(now_ms);
  }
  while (FairEntry* entry = order.pop()) (void)entry;
  return outcomes;
}

double p95(std::vector<double> values) {
  const auto at =
      static_cast<std::ptrdiff_t>(std::ceil(0.95 * static_cast<double>(values.size()))) - 1;
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

std::vector<double> poisson(double per_s, double end_ms, unsigned seed) {
  std::mt19937 random(seed);
  std::exponential_distribution<double> gap_ms(per_s / 1e3);
  std::vector<double> arrivals;
  for (double at = gap_ms(random); at < end_ms; at += gap_ms(random)) arrivals.push_back(at);
  return arrivals;
}

constexpr double kEndMs = 200'000;

// The promise to a tenant that stays within its share: its own p95, and one service of the longest
// model of whoever floods. Poisson arrivals, a flooder with 50 requests in the queue all the time.
TEST(FairOrder, AFloodCostsAtMostOneServiceOfTheFlooder) {
  for (const double load : {0.05, 0.1, 0.2, 0.3})
    for (const double service_ms : {2.0, 10.0})
      for (const std::vector<double>& flood_ms :
           {std::vector<double>{1}, {10}, {50}, {5, 20, 80}}) {
        Behaviour tenant{1, {service_ms}, poisson(load / service_ms * 1e3, kEndMs, 7), 0};
        const Behaviour flooder{1, flood_ms, {}, 50};
        const double alone = p95(simulate({tenant}, 1, kEndMs)[0].response_ms);
        const double with = p95(simulate({tenant, flooder}, 1, kEndMs)[0].response_ms);
        const double longest = *std::max_element(flood_ms.begin(), flood_ms.end());
        std::printf("load %.2f service %4.0f ms, flood of up to %2.0f ms: p95 %6.1f -> %6.1f ms\n",
                    load, service_ms, longest, alone, with);
        EXPECT_LE(with, alone + longest + 1e-6) << load << " " << service_ms << " " << longest;
      }
}

// First come first served, for comparison, would have it wait for all fifty.
TEST(FairOrder, OneTenantAloneIsFirstComeFirstServed) {
  const auto outcome = simulate({{1, {10}, {0, 1, 2, 3}, 0}}, 1, kEndMs)[0].response_ms;
  EXPECT_EQ(outcome, (std::vector<double>{10, 19, 28, 37}));
}

TEST(FairOrder, FloodersShareByWeight) {
  const auto outcomes =
      simulate({{1, {3}, {}, 20}, {2, {10}, {}, 20}, {5, {7}, {}, 20}}, 2, kEndMs);
  double all = 0;
  for (const Outcome& outcome : outcomes) all += outcome.served_ms;
  ASSERT_GT(all, 0);
  EXPECT_NEAR(outcomes[0].served_ms / all, 1.0 / 8, 0.005);
  EXPECT_NEAR(outcomes[1].served_ms / all, 2.0 / 8, 0.005);
  EXPECT_NEAR(outcomes[2].served_ms / all, 5.0 / 8, 0.005);
}

// Who comes back after a long time has its credit before the others, and no more than that.
TEST(FairOrder, IdlenessIsSavedUpToTheCredit) {
  std::vector<double> late(300, 100'000);  // three hundred at once, after a hundred seconds
  const auto outcomes = simulate({{1, {10}, late, 0}, {1, {10}, {}, 5}}, 1, 102'000);
  EXPECT_NEAR(outcomes[0].served_ms, 250 + 1'750 / 2.0, 25);
  EXPECT_NEAR(outcomes[1].served_ms, 100'000 + 1'750 / 2.0, 25);
}

TEST(FairOrder, DeadlinesFirstWithinAShareAndOnlyThere) {
  FairOrder order;
  FairFlow mine, other;
  const auto entry = [](FairFlow& flow, double deadline_ms) {
    FairEntry made;
    made.flow = &flow;
    if (deadline_ms > 0) made.deadline = milliseconds(deadline_ms);
    return made;
  };
  FairEntry never = entry(mine, 0), late = entry(mine, 50), soon = entry(mine, 20),
            others = entry(other, 0);
  order.push(never);
  order.push(others);
  order.push(late);
  order.push(soon);
  const auto serve = [&] {
    FairEntry* next = order.pop();
    order.finish(*next, milliseconds(10));
    return next;
  };
  EXPECT_EQ(serve(), &others) << "a deadline buys nothing from another tenant";
  EXPECT_EQ(serve(), &soon);
  EXPECT_EQ(serve(), &late);
  EXPECT_EQ(serve(), &never);
  EXPECT_EQ(order.pop(), nullptr);
}

// Whatever comes, waits, is cancelled or served: nobody is lost, and nobody served twice.
RC_GTEST_PROP(FairOrder, EveryoneIsServedOnce, ()) {
  FairOrder order;
  std::vector<std::unique_ptr<FairFlow>> flows;
  for (int i = 0; i < 3; ++i) flows.push_back(std::make_unique<FairFlow>(*rc::gen::inRange(1, 9)));
  std::deque<FairEntry> entries;
  std::map<FairEntry*, bool> waiting;
  std::vector<FairEntry*> served;
  const auto steps = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 6));
  for (const int step : steps) {
    if (step < 3) {
      FairEntry& entry = entries.emplace_back();
      entry.flow = flows[static_cast<std::size_t>(step)].get();
      entry.deadline = milliseconds(*rc::gen::inRange(1, 100));
      order.push(entry);
      waiting[&entry] = true;
    } else if (step == 3 && !waiting.empty()) {
      order.remove(*waiting.begin()->first);
      waiting.erase(waiting.begin());
    } else if (step == 4) {
      FairEntry* next = order.pop();
      RC_ASSERT((next == nullptr) == waiting.empty());
      if (next == nullptr) continue;
      RC_ASSERT(waiting.erase(next) == 1);
      served.push_back(next);
    } else if (!served.empty()) {
      order.finish(*served.back(), milliseconds(*rc::gen::inRange(0, 50)));
      served.pop_back();
    }
  }
  while (FairEntry* next = order.pop()) RC_ASSERT(waiting.erase(next) == 1);
  RC_ASSERT(waiting.empty());
  RC_ASSERT(order.empty());
}

}  // namespace
}  // namespace outboard::serve
