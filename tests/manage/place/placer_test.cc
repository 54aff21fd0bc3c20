// SPDX-License-Identifier: Apache-2.0
// Decisions by hand, and what must hold of every decision on random fleets.
#include "manage/place/placer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

PlacerOptions exactly() {  // no margin: limits by hand are met to the last digit
  PlacerOptions options;
  options.promise.margin = 0;
  return options;
}

profile::Cluster cluster_of(int devices, double memory = 0) {
  profile::Cluster c;
  for (int i = 0; i < devices; ++i)
    c.devices.push_back(device("n" + std::to_string(i), "k", memory));
  c.models = {model("m", "k", 10, 0, 40), model("n", "k", 20, 10, 60)};
  return c;
}

Decision admit(Placer& placer, const profile::Application& a) {
  const auto id = placer.fleet().add(a);
  EXPECT_TRUE(id);
  return placer.admit(*id);
}

TEST(Placer, AdmitsWhereEveryLimitHoldsAndSaysTheSlack) {
  Fleet fleet = fleet_of(cluster_of(1));
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  // 20/s of 10 ms: 10 / (1 - 0.2) = 12.5 ms.
  const Decision first = admit(placer, app("a", "m", 20, 15));
  ASSERT_TRUE(first.placed);
  ASSERT_EQ(first.slacks.size(), 1U);
  EXPECT_NEAR(first.slacks[0].slack_ms, 2.5, 1e-9);
  // 20/s more would make it 10 / 0.6 = 16.7 ms: the resident's limit breaks, not the newcomer's.
  const Decision second = admit(placer, app("b", "m", 20, 1000));
  EXPECT_FALSE(second.placed);
  ASSERT_EQ(second.obstacles.size(), 1U);
  EXPECT_EQ(second.obstacles[0].breach, Breach::kLatency);
  EXPECT_EQ(second.obstacles[0].application, "a");
  EXPECT_NEAR(second.obstacles[0].by, (10 / 0.6 - 15) * 1e3, 1e-6);
  EXPECT_EQ(second.obstacles[0].term, Term::kQueue);
  EXPECT_NEAR(second.obstacles[0].term_ms, 10 / 0.6 - 12.5, 1e-9);
  // 13/s: 10 / 0.67 = 14.9.
  EXPECT_TRUE(admit(placer, app("c", "m", 13, 1000)).placed);
}

TEST(Placer, TheMarginIsKeptFree) {
  Fleet fleet = fleet_of(cluster_of(1));
  HandJudge judge;
  PlacerOptions options = exactly();
  options.promise.margin = 0.1;
  Placer placer(fleet, judge, options);
  EXPECT_FALSE(admit(placer, app("a", "m", 20, 13)).placed);  // 12.5 > 11.7
  EXPECT_TRUE(admit(placer, app("b", "m", 20, 14)).placed);   // 12.5 < 12.6
}

TEST(Placer, NamesTheSwapWhenTheSwapBreaksTheLimit) {
  profile::Cluster c = cluster_of(1);
  c.models[1].service = profile::Distribution::constant(100);  // 0.1 ms, but 10 ms to swap in
  c.models[0].swap = profile::Distribution::constant(30e3);
  c.applications = {app("a", "m", 1, 20)};
  c.applications[0].device = "n0";
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  const Decision d = admit(placer, app("b", "n", 1, 1000));
  ASSERT_FALSE(d.placed);
  EXPECT_EQ(d.obstacles[0].application, "a");
  EXPECT_EQ(d.obstacles[0].term, Term::kSwap);
  EXPECT_NEAR(d.obstacles[0].term_ms, 30, 1e-9);
}

TEST(Placer, PinsGroupsAndMemoryExclude) {
  Fleet fleet = fleet_of(cluster_of(3, 100));
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  profile::Application a = app("a", "m", 1, 100);
  a.pinned = {"n2"};
  a.apart = "cameras";
  EXPECT_EQ(admit(placer, a).where[0].device, "n2");
  profile::Application b = app("b", "m", 1, 100);
  b.apart = "cameras";
  b.pinned = {"n2", "n1"};
  EXPECT_EQ(admit(placer, b).where[0].device, "n1");
  profile::Application c = app("c", "n", 1, 100);  // 60 bytes beside m's 40
  c.share_model = false;
  c.pinned = {"n1"};
  EXPECT_TRUE(admit(placer, c).placed);
  profile::Application d = c;
  d.name = "d";
  const Decision refused = admit(placer, d);
  ASSERT_FALSE(refused.placed);
  EXPECT_EQ(refused.obstacles[0].breach, Breach::kMemory);
  EXPECT_EQ(refused.obstacles[0].by, 60);
  EXPECT_EQ(refused.obstacles[1].breach, Breach::kPinned);
}

TEST(Placer, SplitsWhatNoDeviceCanTakeWhole) {
  Fleet fleet = fleet_of(cluster_of(3));
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  profile::Application a = app("a", "m", 120, 25);  // 25 ms: at most 60/s a device
  EXPECT_FALSE(admit(placer, a).placed);
  a.name = "b";
  a.max_replicas = 3;
  const Decision d = admit(placer, a);
  ASSERT_TRUE(d.placed);
  EXPECT_EQ(d.where.size(), 2U);
  EXPECT_EQ(d.where[0].share, 0.5);
  for (const Slack& s : d.slacks) EXPECT_NEAR(s.predicted_ms, 25, 1e-9);
}

TEST(Placer, SplitsUnevenlyWhereDevicesDiffer) {
  profile::Cluster c = cluster_of(1);
  c.devices.push_back(device("fast", "f"));
  c.models.push_back(model("m", "f", 2));
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  profile::Application a = app("a", "m", 480, 20);  // n0 takes 50/s, fast 450/s
  a.max_replicas = 2;
  const Decision d = admit(placer, a);
  ASSERT_TRUE(d.placed);
  ASSERT_EQ(d.where.size(), 2U);
  EXPECT_EQ(d.where[0].device, "fast");
  EXPECT_NEAR(d.where[0].share, 11. / 12, 1e-9);
  EXPECT_NEAR(d.where[1].share, 1. / 12, 1e-9);
}

TEST(Placer, MovesAResidentToMakeRoomAndNeverMoreThanAllowed) {
  profile::Cluster c = cluster_of(2);
  c.devices.push_back(device("g", "other"));
  c.models.push_back(model("n", "other", 20));
  // n0 and n1 are each half full with n, which could also run on g; a newcomer of m needs a device
  // without swaps and nearly alone.
  c.applications = {app("r0", "n", 10, 30), app("r1", "n", 10, 30)};
  c.applications[0].device = "n0";
  c.applications[1].device = "n1";
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  PlacerOptions options = exactly();
  Placer still(fleet, judge, options);
  const AppId id = *fleet.add(app("a", "m", 20, 13));
  EXPECT_FALSE(still.admit(id).placed);
  options.moves = 1;
  Placer placer(fleet, judge, options);
  const Decision d = placer.admit(id);
  ASSERT_TRUE(d.placed);
  EXPECT_EQ(d.moves, (std::vector<Move>{{"r0", "n0", "g", 1}}));
  EXPECT_EQ(d.where[0].device, "n0");
}

TEST(Placer, ImmovableResidentsStay) {
  profile::Cluster c = cluster_of(1);
  c.devices.push_back(device("g", "other"));
  c.models.push_back(model("n", "other", 20));
  c.applications = {app("r0", "n", 10, 60)};
  c.applications[0].device = "n0";
  c.applications[0].movable = false;
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  PlacerOptions options = exactly();
  options.moves = 2;
  Placer placer(fleet, judge, options);
  EXPECT_FALSE(admit(placer, app("a", "m", 20, 13)).placed);
}

TEST(Placer, BatchingIsADecision) {
  profile::Cluster c = cluster_of(1);
  c.devices[0].may_batch = true;
  c.models[0].batch = profile::BatchTime{1000, 9000, 16};  // 1 ms each and 9 ms a batch
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  const Decision d = admit(placer, app("a", "m", 200, 30));  // one at a time: utilisation 2
  ASSERT_TRUE(d.placed);
  ASSERT_EQ(d.settings.size(), 1U);
  EXPECT_EQ(d.settings[0].discipline, profile::Discipline::kBatching);
  EXPECT_EQ(fleet.device(0).discipline, profile::Discipline::kBatching);
}

TEST(Placer, SurvivesTheLossOfAnyDevice) {
  // 25 ms: 60/s fill a device. Two devices must each be half empty to take the other's.
  Fleet fleet = fleet_of(cluster_of(2));
  HandJudge judge;
  PlacerOptions options = exactly();
  options.survive = 1;
  Placer placer(fleet, judge, options);
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(admit(placer, app("a" + std::to_string(i), "m", 10, 25)).placed) << i;
  }
  const Decision d = admit(placer, app("b", "m", 10, 25));
  ASSERT_FALSE(d.placed);
  // Its own device is full, the other must stay free for what is on it.
  const auto reserve = std::find_if(d.obstacles.begin(), d.obstacles.end(),
                                    [](const Obstacle& o) { return o.breach == Breach::kReserve; });
  ASSERT_NE(reserve, d.obstacles.end());
  EXPECT_FALSE(reserve->lost.empty());
  Fleet again = fleet_of(fleet.cluster());
  Placer without(again, judge, exactly());
  EXPECT_TRUE(without.admit(*again.find("b")).placed);
}

TEST(Placer, DefragmentsWithinItsBound) {
  Fleet fleet = fleet_of(cluster_of(4));
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  for (int i = 0; i < 4; ++i) {
    const auto id = fleet.add(app("a" + std::to_string(i), "m", 10, 25));
    fleet.put(*id, {i, 1});
  }
  EXPECT_EQ(placer.defragment(2).size(), 2U);
  EXPECT_EQ(placer.defragment(0).size(), 0U);
  EXPECT_EQ(placer.defragment(100).size(), 1U);
  int used = 0;
  for (DeviceId d = 0; d < 4; ++d) used += fleet.on(d).empty() ? 0 : 1;
  EXPECT_EQ(used, 1);
}

// ---- what must hold of every fleet

struct World {
  profile::Cluster cluster;
  std::vector<profile::Application> newcomers;
};

rc::Gen<World> worlds() {
  return rc::gen::exec([] {
    World w;
    const int devices = *rc::gen::inRange(1, 6);
    for (int i = 0; i < devices; ++i) {
      const std::string kind = *rc::gen::element<std::string>("k", "l");
      w.cluster.devices.push_back(
          device("n" + std::to_string(i), kind, *rc::gen::inRange(50, 400)));
    }
    for (const char* name : {"p", "q", "r"}) {
      for (const char* kind : {"k", "l"}) {
        w.cluster.models.push_back(model(name, kind, *rc::gen::inRange(1, 30),
                                         *rc::gen::inRange(0, 20), *rc::gen::inRange(10, 120)));
      }
    }
    const int apps = *rc::gen::inRange(1, 14);
    for (int i = 0; i < apps; ++i) {
      profile::Application a =
          app("a" + std::to_string(i), *rc::gen::element<std::string>("p", "q", "r"),
              *rc::gen::inRange(1, 20), *rc::gen::inRange(10, 150));
      a.share_model = *rc::gen::arbitrary<bool>();
      a.apart = *rc::gen::element<std::string>("", "", "", "g");
      a.max_replicas = *rc::gen::inRange(1, 4);
      a.movable = *rc::gen::inRange(0, 4) > 0;
      if (*rc::gen::inRange(0, 5) == 0) a.pinned = {"n0"};
      w.newcomers.push_back(a);
    }
    return w;
  });
}

PlacerOptions some_options() {
  PlacerOptions options;
  options.promise.margin = *rc::gen::element(0.0, 0.1, 0.3);
  options.moves = *rc::gen::inRange(0, 3);
  options.survive = *rc::gen::inRange(0, 2);
  options.tight = *rc::gen::arbitrary<bool>();
  return options;
}

void everything_holds(const Fleet& fleet, const PlacerOptions& options) {
  HandJudge judge;
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    RC_ASSERT(check(fleet.load(d), judge, options.promise).holds());
    std::map<std::string, int> groups;
    for (AppId id : fleet.on(d)) {
      const auto& a = fleet.application(id);
      if (!a.apart.empty()) RC_ASSERT(++groups[a.apart] == 1);
      RC_ASSERT((a.pinned.empty() || a.pinned[0] == fleet.device(d).name));
    }
  }
  for (AppId id : fleet.applications()) {
    double sum = 0;
    for (const Placed& p : fleet.where(id)) sum += p.share;
    RC_ASSERT((fleet.where(id).empty() || std::abs(sum - 1) < 1e-9));
    RC_ASSERT(static_cast<int>(fleet.where(id).size()) <= fleet.application(id).max_replicas);
  }
}

// Loses the device, follows the plan, and looks at every device again.
void survives(Placer& placer, const PlacerOptions& options) {
  HandJudge judge;
  for (DeviceId lost = 0; lost < placer.fleet().devices(); ++lost) {
    Fleet after = placer.fleet();
    const std::vector<AppId> gone(after.on(lost).begin(), after.on(lost).end());
    for (AppId id : gone) after.take(id, lost);
    after.set_lost(lost, true);
    std::size_t planned = 0;
    for (const Backup& b : placer.plan(lost)) {
      RC_ASSERT(b.to.device != lost);
      after.put(b.app, b.to);
      ++planned;
    }
    RC_ASSERT(planned == gone.size());
    for (DeviceId d = 0; d < after.devices(); ++d) {
      RC_ASSERT(check(after.load(d), judge, options.promise).holds());
      std::map<std::string, int> groups;
      for (AppId id : after.on(d)) {
        const auto& group = after.application(id).apart;
        if (!group.empty()) RC_ASSERT(++groups[group] == 1);
      }
    }
  }
}

RC_GTEST_PROP(PlacerProperties, EveryLimitHoldsAfterEveryStep, ()) {
  const World w = *worlds();
  const PlacerOptions options = some_options();
  Fleet fleet = fleet_of(w.cluster);
  HandJudge hand;
  RememberingJudge judge(hand);
  Placer placer(fleet, judge, options);
  for (const auto& a : w.newcomers) {
    const Fleet before = fleet;
    const AppId id = *fleet.add(a);
    const Decision foreseen = placer.decide(id);
    RC_ASSERT(!fleet.placed(id));
    const Decision decision = placer.admit(id);
    RC_ASSERT(decision.placed == foreseen.placed);
    RC_ASSERT(decision.where == foreseen.where);
    RC_ASSERT(decision.moves == foreseen.moves);
    RC_ASSERT(static_cast<int>(decision.moves.size()) <= options.moves);
    RC_ASSERT(decision.placed == fleet.placed(id));
    // The moves, one after the other, from the state before: each leaves every limit kept.
    Fleet step = before;
    for (const Move& m : decision.moves) {
      const AppId moved = *step.find(m.application);
      RC_ASSERT(step.application(moved).movable);
      step.take(moved, *step.find_device(m.from));
      step.put(moved, {*step.find_device(m.to), m.share});
      everything_holds(step, options);
    }
    everything_holds(fleet, options);
    if (options.survive) survives(placer, options);
    for (const Slack& s : decision.slacks) {
      RC_ASSERT(s.slack_ms >= s.limit_ms * options.promise.margin - 1e-6);
    }
    if (*rc::gen::inRange(0, 4) == 0) {
      const auto ids = fleet.applications();
      placer.remove(*rc::gen::elementOf(ids));
      everything_holds(fleet, options);
      if (options.survive) survives(placer, options);
    }
  }
  const int most = *rc::gen::inRange(0, 8);
  RC_ASSERT(static_cast<int>(placer.defragment(most).size()) <= most);
  everything_holds(fleet, options);
  if (options.survive) survives(placer, options);
}

RC_GTEST_PROP(PlacerProperties, TheOrderOfTheFileChangesNothing, ()) {
  World w = *worlds();
  const PlacerOptions options = some_options();
  auto run = [&](const profile::Cluster& cluster) {
    Fleet fleet = fleet_of(cluster);
    HandJudge judge;
    Placer placer(fleet, judge, options);
    std::string all;
    for (AppId id : fleet.applications()) {
      const Decision d = placer.admit(id);
      all += d.application + (d.placed ? " on" : " not");
      for (const auto& r : d.where) all += " " + r.device + ":" + std::to_string(r.share);
      for (const auto& m : d.moves) all += " " + m.application + ">" + m.to;
      for (const auto& o : d.obstacles) {
        all += " " + o.device + "/" + o.application + "/" + std::to_string(o.by);
      }
      all += "\n";
    }
    return all;
  };
  profile::Cluster cluster = w.cluster;
  cluster.applications = w.newcomers;
  const std::string first = run(cluster);
  auto shuffle = [](auto& list) {
    for (std::size_t i = list.size(); i > 1; --i) {
      std::swap(list[i - 1], list[*rc::gen::inRange<std::size_t>(0, i)]);
    }
  };
  shuffle(cluster.applications);
  shuffle(cluster.devices);
  shuffle(cluster.models);
  RC_ASSERT(run(cluster) == first);
}

// What the judge remembers, and what the placer remembers of refusals, changes no decision.
RC_GTEST_PROP(PlacerProperties, MemoryChangesNoDecision, ()) {
  const World w = *worlds();
  const PlacerOptions options = some_options();
  Fleet kept = fleet_of(w.cluster);
  HandJudge hand;
  RememberingJudge judge(hand);
  Placer placer(kept, judge, options);
  for (const auto& a : w.newcomers) {
    profile::Cluster now = kept.cluster();
    now.applications.push_back(a);
    Fleet fresh = fleet_of(now);
    HandJudge plain;
    Placer forgetful(fresh, plain, options);
    if (options.survive) break;  // plans depend on history
    const Decision without = forgetful.admit(*fresh.find(a.name));
    const Decision with = placer.admit(*kept.add(a));
    RC_ASSERT(with.placed == without.placed);
    RC_ASSERT(with.where == without.where);
    RC_ASSERT(with.moves == without.moves);
  }
}

}  // namespace
}  // namespace outboard::manage
