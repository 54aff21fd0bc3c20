// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/estimates.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace outboard::intercept {
namespace {

// The modelled link has changed when the model's Run has, by more than its noise.
constexpr double kSame = 1.33;
// A first, and a second Run of an unknown side that took so many times the other's is enough.
constexpr std::array<double, Estimates::kTrials> kHopeless{1, 2, 1.3};

unsigned load_class_of(unsigned under_way) {
  return static_cast<unsigned>(std::min<int>(std::bit_width(under_way), 7));
}

// The level of the nearest load that was seen, a lower one first; nullptr: none was.
template <typename Levels>
const Level* nearest(const Levels& levels, unsigned load_class) {
  for (unsigned i = load_class + 1; i-- > 0;)
    if (levels[i].count() > 0) return &levels[i];
  for (unsigned i = load_class + 1; i < levels.size(); ++i)
    if (levels[i].count() > 0) return &levels[i];
  return nullptr;
}

// A side that takes longer than so many times the best is tried ten times more rarely.
constexpr double kClose = 2;
// How long after an outlier it is asked whether it was one, at least.
constexpr double kSettleUs = 5e5;

void mix(std::uint64_t& hash, std::uint64_t value) {  // FNV-1a, a word at a time
  hash = (hash ^ value) * 0x100000001b3ULL;
}

}  // namespace

RunKey run_key(std::span<const std::uint32_t> wanted, std::span<const wire::InputTensor> inputs) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const std::uint32_t output : wanted) mix(hash, output);
  for (const wire::InputTensor& input : inputs) {
    mix(hash, static_cast<std::uint64_t>(input.header.type) << 32 | input.header.dims.size());
    for (const std::int64_t dim : input.header.dims) mix(hash, static_cast<std::uint64_t>(dim));
  }
  return hash;
}

Estimates::Costs& Estimates::costs(RunKey key) {
  // A program whose shapes never repeat: what comes late shares one estimate.
  if (costs_.size() >= kKeys && !costs_.contains(key)) key = 0;
  Costs& costs = costs_[key];
  costs.servers.resize(servers_);
  return costs;
}

bool Estimates::is_known(const Costs& costs) {
  const auto has_level = [](const Side& side) { return nearest(side.total_us, 0) != nullptr; };
  return has_level(costs.local) ||
         std::any_of(costs.servers.begin(), costs.servers.end(), has_level);
}

Estimates::Side& Estimates::side_of(Costs& costs, int side) {
  if (side == kLocalSide) return costs.local;
  return costs.servers[static_cast<std::size_t>(side)];
}

Estimates::Candidate Estimates::local_candidate(const Costs& costs, double cpu_share) const {
  Candidate c;
  c.load_class = load_class_of(under_way_[0]);
  c.state = &costs.local;
  if (const Level* level = nearest(costs.local.total_us, c.load_class)) {
    c.us = level->value();
    c.bound_us = level->count() >= kTrials ? level->bound() : 0;
    c.hoped_us = level->is_suspect() ? level->hoped() : 0;
    c.is_measured = true;
    return c;
  }
  // As fast as a server's engine, with the share of a core it has, is the best that it may be.
  for (const Server& server : costs.servers) {
    const double compute_us = server.compute_us.value();
    if (compute_us > 0 && (c.us == 0 || compute_us / cpu_share < c.us))
      c.us = compute_us / cpu_share;
  }
  return c;
}

// By what a time at that server changes where the link is as it is now, and not as it was at the
// last Run: as the cost model's time does; and what the link adds it adds to a short one, too.
double Estimates::link_ratio(const Server& server, std::uint64_t request_bytes,
                             const LinkView& view, double us) {
  const double compute_us = server.compute_us.value();
  const double then =
      compute_us + beyond_compute_us(server.reference, request_bytes, server.reply_bytes);
  const double now = compute_us + beyond_compute_us(view, request_bytes, server.reply_bytes);
  if (then <= 0 || us <= 0) return 1;
  return std::max(now / then, now > then ? 1 + (now - then) / us : 0.0);
}

Estimates::Candidate Estimates::server_candidate(const Costs& costs, std::size_t index,
                                                 std::uint64_t request_bytes,
                                                 const LinkView& view) const {
  const Server& server = costs.servers[index];
  Candidate c;
  c.side = static_cast<int>(index);
  c.load_class = load_class_of(under_way_[1 + index]);
  c.state = &server;
  c.usual = {.request_bytes = server.sent_bytes > 0 ? server.sent_bytes : request_bytes,
             .reply_bytes = server.reply_bytes,
             .compute_us = server.compute_us.value(),
             .down_us_per_byte =
                 view.link.down.rate_bytes_per_s > 0 ? 1e6 / view.link.down.rate_bytes_per_s : 0};
  c.request_bytes = request_bytes;
  c.link_falls = view.falls;
  const Level* level = nearest(server.total_us, c.load_class);
  if (level == nullptr) {
    // Its engine may be as fast as it likes, unless another server's is known.
    c.us = view.is_known ? beyond_compute_us(view, request_bytes, 0) : 0;
    return c;
  }
  double ratio = link_ratio(server, request_bytes, view, level->value());
  if (ratio < kSame && ratio > server.trust / kSame) ratio = 1;
  c.us = level->value() * ratio;
  c.link_changed = ratio != 1;
  c.bound_us = level->count() >= kTrials ? level->bound() * std::max(ratio, 1.0) : 0;
  c.hoped_us = level->is_suspect() && ratio < kSame ? level->hoped() : 0;
  c.is_measured = true;
  return c;
}

Decision Estimates::go(Costs& costs, const Candidate& to, std::span<const Candidate> all,
                       bool explores) {
  Decision d;
  d.side = to.side;
  d.load_class = to.load_class;
  d.expected_us = to.us;
  d.late_after_us = to.bound_us;
  // What Runs of other shapes take says nothing of this one's tail.
  if (to.side != kLocalSide && &costs != &all_runs_)
    d.p99_us = costs.servers[static_cast<std::size_t>(to.side)].tail_us.p99();
  d.explores = explores;
  d.link_changed = to.link_changed;
  d.usual = to.usual;
  d.request_bytes = to.request_bytes;
  d.link_falls = to.link_falls;
  for (const Candidate& other : all) {
    if (other.side == to.side || !other.is_measured) continue;
    if (d.other_us != 0 && other.us >= d.other_us) continue;
    d.other_us = other.us;
    d.other_side = other.side;
  }
  ++side_of(costs, to.side).started;
  ++under_way_[static_cast<std::size_t>(to.side) + 1];
  since_local_ = to.side == kLocalSide ? 0 : since_local_ + 1;
  if (!explores) {
    costs.last_side = to.side;
    costs.has_last = true;
  }
  return d;
}

Decision Estimates::decide(RunKey key, std::uint64_t request_bytes, const Sides& sides,
                           double now_us) {
  const std::lock_guard lock(mutex_);
  Costs& own = this->costs(key);
  Costs& costs = is_known(own) ? own : all_runs_;
  std::vector<Candidate> all;
  all.reserve(1 + sides.servers.size());
  for (std::size_t i = 0; i < sides.servers.size() && i < servers_; ++i)
    if (sides.servers[i].usable)
      all.push_back(server_candidate(costs, i, request_bytes, sides.servers[i].view));
  const Candidate local = local_candidate(costs, sides.cpu_share);
  if (all.empty()) return go(costs, local, all, false);  // nobody else can
  const bool local_ready = sides.local_possible && sides.local_open;
  if (local_ready) all.push_back(local);

  const Candidate* best = nullptr;     // of what was measured
  const Candidate* unknown = nullptr;  // the most promising of the others
  for (const Candidate& c : all) {
    const Candidate*& leader = c.is_measured ? best : unknown;
    // Where nothing is known of any, the one with the fewest Runs; the local side, which is there.
    if (leader == nullptr || c.us < leader->us ||
        (!c.is_measured && c.us == leader->us && c.state->started <= leader->state->started))
      leader = &c;
  }
  const bool can_open = sides.local_possible && !sides.local_open;
  const auto open_first = [&](const Candidate& other) {
    return can_open && sides.local_open_us > 0 && local.us + sides.local_open_us < other.us;
  };
  if (best == nullptr) return go(costs, open_first(*unknown) ? local : *unknown, all, false);

  for (const Candidate& c : all) {
    const std::uint64_t started = c.state->started;
    if (&c == best || (c.is_measured && started >= kTrials)) continue;
    // Under way, or lost there: that told nothing, and it is tried again more and more rarely.
    const double pause_us = kStaleUs * static_cast<double>(started);
    if (!c.is_measured && started > 0 && now_us - c.state->last_trial_us < pause_us) continue;
    if (c.us >= kHopeless[std::min(started, kTrials - 1)] * best->us) continue;
    side_of(costs, c.side).last_trial_us = now_us;
    return go(costs, c, all, true);
  }
  // The side that was used last stays, unless another is clearly better.
  if (costs.has_last) {
    for (const Candidate& c : all)
      if (c.side == costs.last_side && c.is_measured && best->us > (1 - kHysteresis) * c.us)
        best = &c;
  }
  bool open_local = false;
  if (can_open) {
    // Not there, and worth being: in the background, as long as a server is not that slow.
    open_local = local.us > 0 && local.us < (1 - kHysteresis) * best->us;
    if (open_local && open_first(*best)) return go(costs, local, all, false);
  }
  for (const Candidate& c : all) {
    if (&c == best || !c.is_measured) continue;
    const double unused_us = now_us - c.state->last_us;
    if (c.hoped_us > 0 && c.hoped_us < best->us && unused_us > std::max(kSettleUs, c.us))
      return go(costs, c, all, true);
    if (unused_us < kStaleUs) continue;
    const double cost_us = std::max(c.us - best->us, 0.0) + 0.1 * best->us;
    if ((c.us < kClose * best->us ? 1 : 10) * cost_us <= budget_us())
      return go(costs, c, all, true);
  }
  const bool stale = local.is_measured && now_us - local.state->last_us > kStaleUs;
  if (can_open && !open_local && stale && sides.local_open_us > 0 &&
      std::max(local.us - best->us, 0.0) + sides.local_open_us <= budget_us()) {
    explored_us_ += sides.local_open_us;
    open_local = true;
  }
  Decision d = go(costs, *best, all, false);
  d.open_local = open_local;
  const double local_us = local.us + sides.local_open_us;
  if (can_open && local.is_measured && d.side != kLocalSide &&
      (d.other_us == 0 || local_us < d.other_us)) {
    d.other_us = local_us;
    d.other_side = kLocalSide;
  }
  return d;
}

void Estimates::ended(const Decision& d, double total_us) {
  --under_way_[static_cast<std::size_t>(d.side) + 1];
  spent_us_ += total_us;
  if (d.explores) explored_us_ += d.exploring_cost_us(total_us);
}

// Where what the link said, before the Run or during it, is confirmed, what was measured before it
// changed is past, and holds for other loads as far as the cost model carries it.
void Estimates::add(Server& server, const Decision& d, double total_us, const LinkView& view) {
  Level& level = server.total_us[d.load_class];
  double predicted_us = d.link_changed ? d.expected_us : 0;
  if (view.falls != d.link_falls)
    predicted_us = level.value() * link_ratio(server, d.request_bytes, view, level.value());
  if (predicted_us == 0 ||
      std::abs(total_us - predicted_us) >= std::abs(total_us - level.value())) {
    level.add(total_us);
    return;
  }
  for (Level& other : server.total_us)
    other.scale(link_ratio(server, d.request_bytes, view, other.value()));
  level.begin_again(total_us);
  server.reference = view;
}

void Estimates::note(Server& server, const Decision& d, const ServerCost& cost,
                     const LinkView& view, double now_us) {
  if (d.expected_us > 0 && server.compute_us.count() > 0) {
    if (cost.total_us < kSame * d.expected_us) {
      server.trust = 1;
    } else if (d.other_us > 0 && cost.total_us > d.other_us) {
      server.trust = std::max(server.trust / 2, 0.01);
    }
  }
  add(server, d, cost.total_us, view);
  server.tail_us.add(cost.total_us);
  server.compute_us.add(std::max(cost.compute_us, 1e-3));
  server.sent_bytes = cost.request_bytes;
  server.reply_bytes = cost.reply_bytes;
  server.reference = view;
  server.last_us = now_us;
}

void Estimates::server_ran(RunKey key, const Decision& d, const ServerCost& cost,
                           const LinkView& view, double now_us) {
  const std::lock_guard lock(mutex_);
  ended(d, cost.total_us);
  for (Costs* costs : {&this->costs(key), &all_runs_})
    note(costs->servers[static_cast<std::size_t>(d.side)], d, cost, view, now_us);
}

void Estimates::local_ran(RunKey key, const Decision& d, double total_us, double now_us) {
  const std::lock_guard lock(mutex_);
  ended(d, total_us);
  for (Costs* costs : {&this->costs(key), &all_runs_}) {
    costs->local.total_us[d.load_class].add(total_us);
    costs->local.last_us = now_us;
  }
}

// At least so long, which is told apart from nothing only where it is more than what is known.
void Estimates::overtaken(RunKey key, const Decision& d, const OvertakenCost& cost,
                          const LinkView& view, double now_us) {
  const std::lock_guard lock(mutex_);
  ended(d, cost.elapsed_us);
  for (Costs* costs : {&this->costs(key), &all_runs_}) {
    Server& server = costs->servers[static_cast<std::size_t>(d.side)];
    const Level& level = server.total_us[d.load_class];
    if (level.count() == 0 || cost.at_least_us > level.value())
      add(server, d, cost.at_least_us, view);
    server.tail_us.add(cost.elapsed_us);
    server.last_us = now_us;
  }
}

double Estimates::local_us(RunKey key, double cpu_share) {
  const std::lock_guard lock(mutex_);
  const Costs& own = this->costs(key);
  return local_candidate(is_known(own) ? own : all_runs_, cpu_share).us;
}

Decision Estimates::begin_second(RunKey key, int side) {
  const std::lock_guard lock(mutex_);
  unsigned& under_way = under_way_[static_cast<std::size_t>(side) + 1];
  Decision d;
  d.side = side;
  d.load_class = load_class_of(under_way++);
  d.expected_us = side_of(costs(key), side).total_us[d.load_class].value();
  if (side == kLocalSide) since_local_ = 0;
  return d;
}

void Estimates::abandoned(const Decision& d) {
  const std::lock_guard lock(mutex_);
  ended(d, 0);
}

bool Estimates::local_is_idle() const {
  const std::lock_guard lock(mutex_);
  return since_local_ >= kIdleRuns;
}

}  // namespace outboard::intercept
