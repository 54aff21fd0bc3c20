// SPDX-License-Identifier: Apache-2.0
// Where Runs go, in a simulated world: a device, servers behind links that change, and noise.
#include "intercept/common/estimates.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <random>

#include "intercept/common/cpu_share.h"
#include "profile/run_cost.h"

namespace outboard::intercept {
namespace {

constexpr RunKey kKey = 7;
constexpr std::uint64_t kRequest = 602'112, kReply = 4'000;

struct Far {
  double compute_us = 70e3;
  double rate_bytes_per_s = 12.5e6;
  double delay_us = 1000;
  double queue_us = 0;
  bool usable = true;
};

// Runs one after the other, and what the background would do meanwhile.
struct World {
  World(double here_us, std::vector<Far> there, bool local_open = true)
      : local_us(here_us), far(std::move(there)), links(far.size()), estimates(far.size()) {
    base.local_open = local_open;
    base.local_open_us = 3 * local_us;
  }

  double local_us;
  std::vector<Far> far;
  std::vector<LinkEstimate> links;
  Estimates estimates;
  Sides base;
  double noise = 0.02, outliers = 0;
  double now_us = 0, probed_us = -1e9;
  std::mt19937 random{1};
  std::uint64_t opened = 0;

  double server_us(std::size_t i) const {
    const Far& f = far[i];
    const profile::Link link{f.delay_us, f.rate_bytes_per_s};
    return profile::remote_cost({f.compute_us, f.queue_us}, {link, link}, {kRequest, kReply}, 0)
        .total_us();
  }
  double best_us() const {
    double best = local_us;
    for (std::size_t i = 0; i < far.size(); ++i)
      if (far[i].usable) best = std::min(best, server_us(i));
    return best;
  }
  double noisy(double us) {
    std::normal_distribution<double> normal(1, noise);
    std::uniform_real_distribution<double> uniform(0, 1);
    us *= std::max(0.5, normal(random));
    return uniform(random) < outliers ? 3 * us : us;
  }
  void probe(std::size_t i) {
    const Far& f = far[i];
    constexpr double kBytes = 16'000;
    const double transfer = kBytes / f.rate_bytes_per_s * 1e6;
    links[i].exchanged({.sent_bytes = 16'000,
                        .received_bytes = 16'000,
                        .until_reply_us = noisy(2 * f.delay_us + 100) + transfer,
                        .receive_us = noisy(transfer),
                        .server_receive_us = transfer,
                        .server_busy_us = 0});
    links[i].waits(f.queue_us);
  }
  // What the session does: decides, runs, tells. Returns the time it took.
  double run() {
    Sides sides = base;
    for (std::size_t i = 0; i < far.size(); ++i)
      sides.servers.push_back({far[i].usable, links[i].view()});
    const Decision d = estimates.decide(kKey, kRequest, sides, now_us);
    if (d.open_local && !base.local_open) {
      base.local_open = true;
      ++opened;
    }
    last = d;
    if (d.side == kLocalSide) {
      const double took = noisy(local_us) + (base.local_open ? 0 : base.local_open_us);
      opened += base.local_open ? 0 : 1;
      base.local_open = true;
      now_us += took;
      estimates.local_ran(kKey, d, took, now_us);
      if (now_us - probed_us > 5e5) {
        for (std::size_t i = 0; i < far.size(); ++i) probe(i);
        probed_us = now_us;
      }
      return took;
    }
    const auto i = static_cast<std::size_t>(d.side);
    const double took = noisy(server_us(i));
    now_us += took;
    const double transfer = kRequest / far[i].rate_bytes_per_s * 1e6;
    links[i].exchanged(
        {.sent_bytes = kRequest,
         .received_bytes = kReply,
         .until_reply_us = 2 * far[i].delay_us + transfer + far[i].compute_us + far[i].queue_us,
         .receive_us = kReply / far[i].rate_bytes_per_s * 1e6,
         .server_receive_us = transfer,
         .server_busy_us = far[i].compute_us + far[i].queue_us});
    links[i].waits(far[i].queue_us);
    estimates.server_ran(kKey, d, {took, far[i].compute_us, kRequest, kReply}, links[i].view(),
                         now_us);
    return took;
  }
  double mean_us(int runs) {
    double sum = 0;
    for (int i = 0; i < runs; ++i) sum += run();
    return sum / runs;
  }
  // Where most of the next Runs go: one or the other may be a trial.
  int usual_side() {
    std::map<int, int> went;
    for (int i = 0; i < 9; ++i) {
      run();
      ++went[last.side];
    }
    return std::max_element(went.begin(), went.end(),
                            [](auto& a, auto& b) { return a.second < b.second; })
        ->first;
  }
  Decision last;
};

World world(double local_us, const Far& far, bool local_open = true) {
  return World(local_us, {far}, local_open);
}

// Runs, and their time, until the last two took at most 10 % more than the best would have.
std::pair<int, double> until_adapted(World& w) {
  const double begin = w.now_us;
  int good = 0, runs = 0;
  double at = begin;
  while (good < 2 && runs < 1000) {
    const bool is_good = w.run() < 1.1 * w.best_us() * (1 + 3 * w.noise);
    ++runs;
    good = is_good ? good + 1 : 0;
    if (good == 0) at = w.now_us;
    if (good == 0) continue;
  }
  return {runs - good, at - begin};
}

TEST(Estimates, EveryCellOfTheGridIsWithinFivePercentOfTheBest) {
  for (const double outliers : {0.0, 0.01}) {
    for (const double local_us : {8e3, 75e3, 80e3, 290e3, 750e3, 2900e3}) {
      for (const double rate : {1.25e5, 1.25e6, 1.25e7, 1.25e8}) {
        for (const double delay_us : {100.0, 1e3, 5e3, 20e3, 50e3}) {
          for (const bool open : {true, false}) {
            World w = world(local_us, {.rate_bytes_per_s = rate, .delay_us = delay_us}, open);
            w.outliers = outliers;
            w.mean_us(20);
            const double mean = w.mean_us(200);
            EXPECT_LT(mean, (1.05 + 2 * outliers) * w.best_us())
                << "local " << local_us << " remote " << w.server_us(0) << " rate " << rate
                << " delay " << delay_us << " open " << open << " outliers " << outliers;
          }
        }
      }
    }
  }
}

TEST(Estimates, AHundredTimesSlowerLinkIsLeftAndTakenAgainInTime) {
  for (const double local_us : {150e3, 750e3, 2900e3}) {
    World w = world(local_us, {.rate_bytes_per_s = 12.5e6});
    w.mean_us(50);
    ASSERT_EQ(w.usual_side(), 0);
    w.far[0].rate_bytes_per_s /= 100;
    auto [runs, time_us] = until_adapted(w);
    EXPECT_TRUE(runs <= 2 || time_us < 2e6) << runs << " Runs, " << time_us << " us";
    w.mean_us(100);
    EXPECT_EQ(w.usual_side(), kLocalSide);
    w.far[0].rate_bytes_per_s *= 100;
    std::tie(runs, time_us) = until_adapted(w);
    EXPECT_TRUE(runs <= 2 || time_us < 2e6) << runs << " Runs, " << time_us << " us";
    EXPECT_LT(w.mean_us(100), 1.05 * w.best_us());
  }
}

// A Run under way tells what the link has become: the next ones know it although none has ended,
// and what its end then says is no outlier that has to be looked into.
TEST(Estimates, AFallThatARunUnderWayHasSeenIsKnownToTheNext) {
  for (const bool overtaken : {true, false}) {
    World w = world(750e3, {.rate_bytes_per_s = 12.5e6});
    w.mean_us(60);
    ASSERT_EQ(w.usual_side(), 0);
    const auto decide = [&] {
      Sides sides = w.base;
      sides.servers.push_back({true, w.links[0].view()});
      return w.estimates.decide(kKey, kRequest, sides, w.now_us);
    };
    const Decision under_way = decide();
    ASSERT_EQ(under_way.side, 0);
    w.links[0].fell(/*up=*/true, 8);
    const Decision next = decide();
    EXPECT_EQ(next.side, kLocalSide);
    w.now_us += 750e3;
    w.estimates.local_ran(kKey, next, 750e3, w.now_us);
    constexpr double kAllUs = 4.9e6;
    if (overtaken) {
      w.estimates.overtaken(kKey, under_way, {1.2e6, kAllUs}, w.links[0].view(), w.now_us);
    } else {
      w.now_us += 4e6;
      w.estimates.server_ran(kKey, under_way, {kAllUs, 70e3, kRequest, kReply}, w.links[0].view(),
                             w.now_us);
    }
    w.far[0].rate_bytes_per_s = 125e3;
    for (int i = 0; i < 60; ++i) {
      w.run();
      EXPECT_EQ(w.last.side, kLocalSide) << "Run " << i << ", overtaken: " << overtaken;
    }
    w.far[0].rate_bytes_per_s = 12.5e6;
    const auto [runs, time_us] = until_adapted(w);
    EXPECT_TRUE(runs <= 2 || time_us < 2e6) << runs << " Runs, " << time_us << " us";
  }
}

TEST(LinkEstimate, BelievesAFallOnlyWhereItIsOne) {
  LinkEstimate link;
  const auto exchange = [&](double us_per_byte) {
    link.exchanged({.sent_bytes = 100'000,
                    .received_bytes = 100,
                    .until_reply_us = 2e3 + 100e3 * us_per_byte,
                    .server_receive_us = 100e3 * us_per_byte});
  };
  for (int i = 0; i < 20; ++i) exchange(0.1);
  link.fell(/*up=*/true, 0.19);
  EXPECT_EQ(link.view().falls, 0u);
  EXPECT_NEAR(link.view().link.up.rate_bytes_per_s, 10e6, 1);
  link.fell(true, 8);
  EXPECT_EQ(link.view().falls, 1u);
  EXPECT_NEAR(link.view().link.up.rate_bytes_per_s, 125e3, 1);
  EXPECT_EQ(link.view().link.down.rate_bytes_per_s, 0) << "nothing is known of it";
  link.fell(true, 9);
  EXPECT_EQ(link.view().falls, 1u) << "known already";
  exchange(0.1);
  exchange(0.1);
  EXPECT_NEAR(link.view().link.up.rate_bytes_per_s, 10e6, 1e5) << "two in a row are a step";
}

TEST(Estimates, AServerThatOthersTakeIsLeftAndTakenAgainInTime) {
  World w = world(100e3, {});
  w.far[0].rate_bytes_per_s = 125e6;
  w.mean_us(50);
  ASSERT_EQ(w.usual_side(), 0);
  w.far[0].queue_us = 60e3;
  auto [runs, time_us] = until_adapted(w);
  EXPECT_TRUE(runs <= 2 || time_us < 2e6) << runs << " Runs, " << time_us << " us";
  w.mean_us(100);
  EXPECT_EQ(w.usual_side(), kLocalSide);
  w.far[0].queue_us = 0;
  std::tie(runs, time_us) = until_adapted(w);
  EXPECT_TRUE(runs <= 2 || time_us < 2e6) << runs << " Runs, " << time_us << " us";
}

TEST(Estimates, EachRunGoesToTheServerThatAnswersSoonest) {
  World w(5e6, {{.compute_us = 80e3}, {.compute_us = 40e3}, {.compute_us = 60e3}});
  w.mean_us(20);
  EXPECT_EQ(w.usual_side(), 1);
  w.far[1].usable = false;  // it drains
  EXPECT_EQ(w.usual_side(), 2);
  w.far[1].usable = true;
  EXPECT_EQ(w.usual_side(), 1);
}

TEST(Estimates, AClosedLocalSideIsOpenedOnlyWhenItMayBeSooner) {
  World weak = world(3e6, {}, false);
  weak.base.cpu_share = 0.02;
  weak.mean_us(50);
  EXPECT_EQ(weak.opened, 0u);

  World slow_link = world(300e3, {.rate_bytes_per_s = 1.25e5}, false);
  slow_link.mean_us(5);
  EXPECT_EQ(slow_link.opened, 1u);
  EXPECT_EQ(slow_link.usual_side(), kLocalSide);

  World fast_link =
      world(300e3, {.compute_us = 1e5, .rate_bytes_per_s = 1.25e9, .delay_us = 50}, false);
  fast_link.noise = 0;
  fast_link.mean_us(20);
  fast_link.mean_us(20);
  EXPECT_TRUE(fast_link.estimates.local_is_idle());
}

TEST(Estimates, RunsUnderWayTogetherAreSpreadOverWhatIsSooner) {
  // Four callers; a side with n Runs takes n times as long: what each sees is learnt for each n.
  Estimates estimates(1);
  Sides sides;
  sides.local_open = true;
  sides.servers.push_back({true, {}});
  struct Flying {
    Decision d;
    double ends_us, took_us;
  };
  std::vector<Flying> flying;
  double now = 0;
  std::array<int, 2> went{};
  for (int i = 0; i < 400; ++i) {
    if (flying.size() == 4) {
      const auto first = std::min_element(flying.begin(), flying.end(),
                                          [](auto& a, auto& b) { return a.ends_us < b.ends_us; });
      now = first->ends_us;
      if (first->d.side == kLocalSide)
        estimates.local_ran(kKey, first->d, first->took_us, now);
      else
        estimates.server_ran(kKey, first->d, {first->took_us, 1e4, 1, 1}, {}, now);
      flying.erase(first);
    }
    const Decision d = estimates.decide(kKey, 1, sides, now);
    const auto same =
        std::count_if(flying.begin(), flying.end(), [&](auto& f) { return f.d.side == d.side; });
    const double took = 1e4 * static_cast<double>(1 + same);
    flying.push_back({d, now + took, took});
    ++went[d.side == kLocalSide ? 0 : 1];
  }
  EXPECT_GT(went[0], 100);
  EXPECT_GT(went[1], 100);
}

// A text line, a crop: no shape comes twice, so no key is ever known. What all Runs together took
// decides; a Run that is lost at the server tells nothing and is tried again, more and more rarely.
TEST(Estimates, ShapesThatNeverRepeatGoWhereRunsAreSooner) {
  Estimates estimates(1);
  Sides sides;
  sides.local_open = true;
  sides.servers.push_back({true, {}});
  double now = 0;
  int lost = 0, at_server = 0;
  for (RunKey key = 1; key <= 200; ++key) {
    const Decision d = estimates.decide(key, 1, sides, now);
    if (d.side == kLocalSide) {
      now += 2e5;
      estimates.local_ran(key, d, 2e5, now);
    } else if (now < 2e7) {
      now += 1e6;
      ++lost;
      estimates.abandoned(d);
    } else {
      now += 1e4;
      ++at_server;
      estimates.server_ran(key, d, {1e4, 9e3, 1, 1}, {}, now);
    }
  }
  EXPECT_GE(lost, 2);
  EXPECT_LE(lost, 4);
  EXPECT_GT(at_server, 60);
}

RC_GTEST_PROP(Estimates, ExploringCostsAtMostOnePercentAfterTheFirstTrials, ()) {
  const double local_us = *rc::gen::inRange(5, 3000) * 1e3;
  Far far;
  far.rate_bytes_per_s = std::pow(10.0, *rc::gen::inRange(50, 85) / 10.0);
  far.delay_us = *rc::gen::inRange(50, 50'000);
  far.compute_us = *rc::gen::inRange(5, 300) * 1e3;
  World w = world(local_us, far, *rc::gen::arbitrary<bool>());
  w.noise = 0.01;
  w.mean_us(20);
  const double mean = w.mean_us(2000);
  RC_ASSERT(mean < (1.01 + Estimates::kHysteresis + 0.01) * w.best_us());
}

RC_GTEST_PROP(Estimates, AdaptsToAnyStepOfTheLink, ()) {
  Far far;
  far.rate_bytes_per_s = 12.5e6;
  far.compute_us = *rc::gen::inRange(5, 100) * 1e3;
  const double local_us = *rc::gen::inRange(5, 3000) * 1e3;
  World w = world(local_us, far);
  w.mean_us(60);
  w.far[0].rate_bytes_per_s = std::pow(10.0, *rc::gen::inRange(50, 80) / 10.0);
  w.far[0].delay_us = *rc::gen::inRange(50, 50'000);
  until_adapted(w);
  w.mean_us(20);
  if (w.best_us() < local_us / 1.5 || w.best_us() == local_us)
    RC_ASSERT(w.mean_us(200) < 1.1 * w.best_us());
}

TEST(Level, AveragesNoiseIgnoresAnOutlierAndBelievesAStep) {
  Level level;
  for (int i = 0; i < 20; ++i) level.add(100 + (i % 2));
  EXPECT_NEAR(level.value(), 100.5, 0.5);
  level.add(1000);
  EXPECT_NEAR(level.value(), 550, 5);
  EXPECT_TRUE(level.is_suspect());
  level.add(100);
  EXPECT_LT(level.value(), 120);
  level.add(1000);
  level.add(1010);
  EXPECT_NEAR(level.value(), 1005, 1);
  level.add(101);
  level.add(101);
  EXPECT_NEAR(level.value(), 101, 1);
}

TEST(LinkEstimate, TakesDelayAndRateFromAnExchange) {
  LinkEstimate estimate;
  EXPECT_FALSE(estimate.view().is_known);
  // 100 kB up at 1 MB/s, 50 kB down at 2 MB/s, 3 ms each way, 20 ms there.
  estimate.exchanged({100'000, 50'000, 3e3 + 100e3 + 20e3 + 3e3, 25e3, 100e3, 20e3});
  const LinkView view = estimate.view();
  EXPECT_NEAR(view.link.up.delay_us, 3e3, 1);
  EXPECT_NEAR(view.link.up.rate_bytes_per_s, 1e6, 10);
  EXPECT_NEAR(view.link.down.rate_bytes_per_s, 2e6, 10);
  EXPECT_NEAR(beyond_compute_us(view, 10'000, 20'000), 3e3 + 10e3 + 3e3 + 10e3, 10);
}

TEST(CpuShare, IsTheSmallestQuotaOfTheGroupAndThoseAboveIt) {
  std::map<std::string, std::string> files;
  const auto read = [&](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  };
  EXPECT_EQ(cpu_share(read), 1);
  files["/proc/self/cgroup"] = "3:memory:/a\n2:cpu,cpuacct:/a/b\n";
  EXPECT_EQ(cpu_share(read), 1);
  files["/sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us"] = "-1\n";
  files["/sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us"] = "100000\n";
  EXPECT_EQ(cpu_share(read), 1);
  files["/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us"] = "1000\n";
  files["/sys/fs/cgroup/cpu/a/cpu.cfs_period_us"] = "10000\n";
  EXPECT_DOUBLE_EQ(cpu_share(read), 0.1);
  files["/proc/self/cgroup"] = "0::/c\n";
  files["/sys/fs/cgroup/c/cpu.max"] = "max 100000\n";
  EXPECT_EQ(cpu_share(read), 1);
  files["/sys/fs/cgroup/c/cpu.max"] = "50000 100000\n";
  EXPECT_DOUBLE_EQ(cpu_share(read), 0.5);
}

TEST(RunKey, DiffersByShapeTypeAndWantedOutputs) {
  wire::InputTensor input;
  input.header.type = wire::ElementType::kFloat;
  input.header.dims = {1, 3, 224, 224};
  const std::array<std::uint32_t, 1> first{0}, second{1};
  const RunKey key = run_key(first, std::span(&input, 1));
  EXPECT_EQ(key, run_key(first, std::span(&input, 1)));
  EXPECT_NE(key, run_key(second, std::span(&input, 1)));
  input.header.dims = {1, 3, 224, 225};
  EXPECT_NE(key, run_key(first, std::span(&input, 1)));
}

}  // namespace
}  // namespace outboard::intercept
