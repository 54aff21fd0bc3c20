// SPDX-License-Identifier: Apache-2.0
#include "split/plan/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace outboard::split {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Simulated tasks and operator visits that one unit of effort pays for.
constexpr double kEffort = 4.5e6;

class Search {
 public:
  Search(const Graph& graph, const Cluster& cluster, const PlanRequest& request, double effort)
      : graph_(graph),
        cluster_(cluster),
        request_(request),
        builder_(graph, cluster),
        units_(static_cast<int>(graph.units.size())),
        head_(head_unit(graph)),
        left_(effort * kEffort) {}

  // Makespan of one image; infinite when a node's memory does not hold it.
  double cost(const Program& program) {
    layouts_.resize(1);
    layouts_[0] = builder_.build(program);
    one_.programs = {program};
    one_.images = {0};
    left_ -= 4.0 * layouts_[0].tasks() + static_cast<double>(graph_.ops.size()) * program.size();
    if (!fits(program, layouts_[0])) return kInfinity;
    return simulate(cluster_, one_, layouts_).makespan_us;
  }
  double cost(const Choice& choice) { return cost(program_of(graph_, cluster_, choice)); }

  Choice initial(int nodes) const;
  std::vector<Choice> variants(int nodes);
  void climb(Choice& best, double& best_us);
  bool spent() const { return left_ <= 0; }
  void set_left(double effort) { left_ = effort * kEffort; }
  bool fits(const Program& program, const Layout& layout) const;

 private:
  bool attempt(const Choice& candidate, Choice& best, double& best_us) {
    if (spent()) return false;
    const double us = cost(candidate);
    if (us >= best_us * (1 - 1e-6)) return false;
    best = candidate;
    best_us = us;
    return true;
  }
  bool climb_shares(Choice& best, double& best_us, double step);
  bool climb_borders(Choice& best, double& best_us);
  bool climb_pieces(Choice& best, double& best_us);
  bool climb_ends(Choice& best, double& best_us);
  bool climb_cuts(Choice& best, double& best_us, bool each_block);

  const Graph& graph_;
  const Cluster& cluster_;
  const PlanRequest& request_;
  LayoutBuilder builder_;
  std::vector<Layout> layouts_;
  Plan one_;
  int units_;
  int head_;
  double left_;
};

bool Search::fits(const Program& program, const Layout& layout) const {
  for (int i = 0; i < program.size(); ++i) {
    const double limit = cluster_.node(program.participants[at(i)]).memory_bytes;
    if (limit > 0 && layout.memory_bytes[at(i)] > limit) return false;
  }
  return true;
}

Choice Search::initial(int nodes) const {
  Choice c;
  c.participants = chain(cluster_, nodes);
  for (int p : c.participants) {
    const auto& node = cluster_.node(p);
    c.shares.push_back(speed(graph_, node));
  }
  c.starts.assign(at(units_), 1);
  c.pieces.assign(at(units_), 0);
  c.shifts.resize(at(units_));
  c.host_from = units_;
  return c;
}

// Where climbing may begin: with and without overlap, blocks fused or not, the head split or not.
std::vector<Choice> Search::variants(int nodes) {
  std::vector<Choice> out;
  const Choice plain = initial(nodes);
  Choice fused = plain;
  std::fill(fused.starts.begin(), fused.starts.begin() + head_, 0);
  for (int u : fuse_blocks(graph_, cluster_, plain.participants, plain.shares, false))
    fused.starts[at(u)] = 1;
  std::vector<Choice> begins = {plain};
  if (request_.fuse) begins.push_back(fused);
  for (const Choice& from : begins)
    for (int host_from : {head_, units_}) {
      if (host_from != head_ && !request_.divide_head) continue;
      for (int pieces : {0, 1}) {
        if (pieces > 0 && !request_.overlap) continue;
        Choice c = from;
        c.host_from = host_from;
        std::fill(c.pieces.begin(), c.pieces.end(), pieces);
        out.push_back(std::move(c));
      }
      if (head_ == units_) break;
    }
  return out;
}

bool Search::climb_shares(Choice& best, double& best_us, double step) {
  bool better = false;
  for (std::size_t i = 0; i < best.shares.size(); ++i)
    for (double factor : {1 + step, 1 / (1 + step)}) {
      for (;;) {
        Choice c = best;
        c.shares[i] *= factor;
        if (!attempt(c, best, best_us)) break;
        better = true;
      }
    }
  return better;
}

bool Search::climb_borders(Choice& best, double& best_us) {
  if (!request_.fuse) return false;
  bool better = false;
  for (int u = 1; u < units_; ++u) {
    if (graph_.units[at(u)].hard_border) continue;
    Choice c = best;
    c.starts[at(u)] = c.starts[at(u)] ? 0 : 1;
    better |= attempt(c, best, best_us);
  }
  return better;
}

bool Search::climb_pieces(Choice& best, double& best_us) {
  if (!request_.overlap) return false;
  bool better = false;
  for (int pieces : {0, 1, 2, 4}) {
    Choice c = best;
    std::fill(c.pieces.begin(), c.pieces.end(), pieces);
    better |= attempt(c, best, best_us);
  }
  Choice order = best;
  order.boundary_first = !order.boundary_first;
  better |= attempt(order, best, best_us);
  for (int parts : {1, 2, 4}) {
    Choice c = best;
    c.scatter_parts = parts;
    if (parts != best.scatter_parts) better |= attempt(c, best, best_us);
  }
  for (int u = 0; u < units_; ++u) {
    if (!best.starts[at(u)]) continue;
    for (int pieces : {0, 1, 2}) {
      if (best.pieces[at(u)] == pieces) continue;
      Choice c = best;
      c.pieces[at(u)] = pieces;
      better |= attempt(c, best, best_us);
    }
  }
  return better;
}

// How much of the beginning and of the end the host does alone.
bool Search::climb_ends(Choice& best, double& best_us) {
  bool better = false;
  std::vector<int> from = {head_, units_};
  for (int back : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48})
    if (head_ - back > 0) from.push_back(head_ - back);
  for (int u = head_ + 1; u < units_; ++u) from.push_back(u);
  for (int u : from) {
    if (u == best.host_from || (u > head_ && !request_.divide_head)) continue;
    Choice c = best;
    c.host_from = u;
    better |= attempt(c, best, best_us);
  }
  for (int u : {0, 1, 2, 3, 4, 6, 8, 12}) {
    if (u == best.host_until || u >= best.host_from) continue;
    Choice c = best;
    c.host_until = u;
    if (u < units_) c.starts[at(u)] = 1;
    better |= attempt(c, best, best_us);
  }
  return better;
}

bool Search::climb_cuts(Choice& best, double& best_us, bool each_block) {
  bool better = false;
  const int inner = static_cast<int>(best.participants.size()) - 1;
  const auto shift = [&](std::vector<int>& shifts, int cut, int by) {
    shifts.resize(at(inner), 0);
    shifts[at(cut)] += by;
  };
  std::vector<int> heights;
  for (int u = 0; u < units_; ++u) {
    const int rows = unit_rows(graph_, u);
    if (!best.starts[at(u)] || rows <= inner) continue;
    const bool seen = std::find(heights.begin(), heights.end(), rows) != heights.end();
    if (!each_block && seen) continue;
    heights.push_back(rows);
    for (int cut = 0; cut < inner; ++cut)
      for (int by : {1, -1}) {
        Choice c = best;
        if (each_block) {
          shift(c.shifts[at(u)], cut, by);
        } else {
          auto it = std::find_if(c.level_shifts.begin(), c.level_shifts.end(),
                                 [&](const auto& l) { return l.first == rows; });
          if (it == c.level_shifts.end()) it = c.level_shifts.insert(it, {rows, {}});
          shift(it->second, cut, by);
        }
        better |= attempt(c, best, best_us);
      }
  }
  return better;
}

void Search::climb(Choice& best, double& best_us) {
  for (double step = 0.16; !spent(); step = std::max(0.01, step / 2)) {
    bool better = climb_pieces(best, best_us);
    better |= climb_ends(best, best_us);
    better |= climb_shares(best, best_us, step);
    better |= climb_borders(best, best_us);
    better |= climb_cuts(best, best_us, false);
    if (step < 0.1) better |= climb_cuts(best, best_us, true);
    if (!better && step <= 0.02) break;
  }
}

struct Candidate {
  std::string name;
  Plan plan;
  std::vector<Layout> layouts;
  Schedule schedule;
  int late = 0;
  bool fits = true;
  std::size_t order = 0;  // of two equal ones the first

  std::tuple<bool, int, double, std::size_t> rank() const {
    return {!fits, late, schedule.makespan_us, order};
  }
};

// Where climbing may begin.
struct Start {
  double us = 0;
  std::size_t order = 0;
  Choice choice;
};

class Planner {
 public:
  Planner(const Graph& graph, const Cluster& cluster, const PlanRequest& request)
      : graph_(graph),
        cluster_(cluster),
        request_(request),
        builder_(graph, cluster),
        search_(graph, cluster, request, 1) {}

  PlanResult run(const Choice* before, double effort);

 private:
  void consider(std::string name, std::vector<Program> programs, std::vector<int> images);
  void consider_all(const std::string& name, const Program& program) {
    consider(name, {program}, std::vector<int>(at(request_.images), 0));
  }
  void hand_out(const Program* split);
  const Graph& graph_;
  const Cluster& cluster_;
  const PlanRequest& request_;
  LayoutBuilder builder_;
  Search search_;
  std::vector<Candidate> candidates_;
};

void Planner::consider(std::string name, std::vector<Program> programs, std::vector<int> images) {
  Candidate c;
  c.name = std::move(name);
  c.plan = {std::move(programs), std::move(images)};
  for (const auto& p : c.plan.programs) {
    c.layouts.push_back(builder_.build(p));
    c.fits &= search_.fits(p, c.layouts.back());
  }
  c.schedule = simulate(cluster_, c.plan, c.layouts);
  for (double end : c.schedule.image_end_us)
    if (request_.deadline_us > 0 && end > request_.deadline_us) ++c.late;
  c.order = candidates_.size();
  candidates_.push_back(std::move(c));
}

// Whole images to whoever is free first; the last ones split when there is a way to split.
void Planner::hand_out(const Program* split) {
  std::vector<Program> whole;
  std::vector<double> takes, free(cluster_.nodes.size(), 0);
  std::vector<int> program_of_node;
  for (int n = 0; n < cluster_.size(); ++n) {
    Program p = single(graph_, cluster_, n);
    const double us = search_.cost(p);
    program_of_node.push_back(std::isfinite(us) ? static_cast<int>(whole.size()) : -1);
    takes.push_back(us);
    if (std::isfinite(us)) whole.push_back(std::move(p));
  }
  if (whole.empty()) return;
  const int splits = static_cast<int>(whole.size());
  std::vector<Program> programs = whole;
  if (split) programs.push_back(*split);
  std::vector<int> images;
  const int most_split = split ? std::min(request_.images - 1, cluster_.size()) : 0;
  for (int last = 0; last <= most_split; ++last) {
    std::fill(free.begin(), free.end(), 0.0);
    images.clear();
    for (int i = 0; i < request_.images - last; ++i) {
      std::size_t best = 0;
      for (std::size_t n = 1; n < free.size(); ++n)
        if (free[n] + takes[n] < free[best] + takes[best]) best = n;
      free[best] += takes[best];
      images.push_back(program_of_node[best]);
    }
    for (int i = 0; i < last; ++i) images.push_back(splits);
    consider(last == 0 ? "whole images handed out"
                       : "whole images handed out, the last " + std::to_string(last) + " split",
             programs, images);
  }
}

PlanResult Planner::run(const Choice* before, double effort) {
  const Program one = single(graph_, cluster_, cluster_.host);
  consider_all("single", one);
  PlanResult result;
  result.single_us = candidates_[0].schedule.makespan_us;
  Choice best;
  double best_us = kInfinity;
  if (cluster_.size() > 1) {
    if (before) {
      best = *before;
      best_us = search_.cost(best);
      search_.set_left(effort);
      search_.climb(best, best_us);
    } else {
      for (Scheme s : {Scheme::kHalp, Scheme::kModnn, Scheme::kDpfp, Scheme::kTiles})
        if (!request_.restricted())
          consider_all(std::string(name_of(s)), baseline(s, graph_, cluster_));
      for (int n = 0; n < cluster_.size(); ++n)
        if (n != cluster_.host)
          consider_all("whole image on " + cluster_.node(n).name, single(graph_, cluster_, n));
      std::vector<Start> starts;
      for (int nodes = 2; nodes <= cluster_.size(); ++nodes) {
        for (const Choice& c : search_.variants(nodes)) {
          const double us = search_.cost(c);
          if (std::isfinite(us)) starts.push_back({us, starts.size(), c});
        }
      }
      std::sort(starts.begin(), starts.end(), [](const Start& a, const Start& b) {
        return std::tie(a.us, a.order) < std::tie(b.us, b.order);
      });
      // The three best, each for a while; then the best of what came of them, to the end.
      const std::size_t tries = std::min<std::size_t>(starts.size(), 3);
      for (std::size_t i = 0; i < tries; ++i) {
        auto [us, order, c] = std::move(starts[i]);
        search_.set_left(effort / 5);
        search_.climb(c, us);
        if (us < best_us) {
          best_us = us;
          best = c;
        }
      }
      search_.set_left(effort * 2 / 5);
      if (std::isfinite(best_us)) search_.climb(best, best_us);
    }
  }
  if (std::isfinite(best_us)) {
    Program split = program_of(graph_, cluster_, best);
    split.scheme = "auto";
    consider_all("auto on " + std::to_string(split.size()) + " nodes", split);
    if (request_.images > 1) hand_out(&split);
    result.choice = best;
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.rank() < b.rank(); });
  for (const auto& c : candidates_)
    result.alternatives.push_back(
        {c.name, c.schedule.makespan_us, c.fits ? "" : "a node is too small for it"});
  Candidate& chosen = candidates_.front();
  result.plan = std::move(chosen.plan);
  result.layouts = std::move(chosen.layouts);
  result.schedule = std::move(chosen.schedule);
  result.late = chosen.late > 0;
  return result;
}

}  // namespace

Program program_of(const Graph& graph, const Cluster& cluster, const Choice& choice) {
  Program program;
  program.participants = choice.participants;
  program.boundary_first = choice.boundary_first;
  program.scatter_parts = choice.scatter_parts;
  const int n = program.size(), host = program.host_index(cluster);
  const int units = static_cast<int>(graph.units.size());
  for (int u = 0; u < units;) {
    int end = u + 1;
    while (end < units && !choice.starts[at(end)] && !graph.units[at(end)].hard_border &&
           end != choice.host_until && end != choice.host_from)
      ++end;
    const bool alone = u < choice.host_until || u >= choice.host_from;
    // What the host does alone is one call, whatever borders there are.
    if (alone) end = u < choice.host_until ? choice.host_until : units;
    Block b{u, end, unit_rows(graph, end - 1), {}, choice.pieces[at(u)], false};
    if (alone) {
      b.cuts = give_all(b.rows, n, host);
      b.interior_pieces = 0;
    } else {
      b.cuts = cut_rows(b.rows, choice.shares);
      const auto shift = [&](const std::vector<int>& by) {
        for (std::size_t i = 0; i < by.size(); ++i) b.cuts[i + 1] += by[i];
      };
      shift(choice.shifts[at(u)]);
      for (const auto& [rows, by] : choice.level_shifts)
        if (rows == b.rows) shift(by);
      for (std::size_t i = 1; i < b.cuts.size(); ++i)
        b.cuts[i] = std::clamp(b.cuts[i], b.cuts[i - 1], b.rows);
      b.cuts.back() = b.rows;
    }
    program.blocks.push_back(std::move(b));
    u = end;
  }
  return program;
}

PlanResult plan(const Graph& graph, const Cluster& cluster, const PlanRequest& request) {
  return Planner(graph, cluster, request).run(nullptr, request.effort);
}

PlanResult replan(const Graph& graph, const Cluster& cluster, const PlanResult& before,
                  const PlanRequest& request) {
  const bool known = !before.choice.participants.empty();
  return Planner(graph, cluster, request)
      .run(known ? &before.choice : nullptr, known ? 0.015 * request.effort : request.effort);
}

PlanResult plan_baseline(Scheme scheme, const Graph& graph, const Cluster& cluster, int images) {
  PlanResult result;
  result.plan.programs = {baseline(scheme, graph, cluster)};
  result.plan.images.assign(at(images), 0);
  LayoutBuilder builder(graph, cluster);
  result.layouts = {builder.build(result.plan.programs[0])};
  result.schedule = simulate(cluster, result.plan, result.layouts);
  const Plan one{{single(graph, cluster, cluster.host)}, result.plan.images};
  result.single_us = simulate(cluster, one, {builder.build(one.programs[0])}).makespan_us;
  result.alternatives = {{std::string(name_of(scheme)), result.schedule.makespan_us, ""}};
  return result;
}

}  // namespace outboard::split
