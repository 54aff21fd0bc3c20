// SPDX-License-Identifier: Apache-2.0
// Who takes part in a split session's plans, and what is known of them.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "profile/json/rows.h"
#include "split/exec/links.h"
#include "split/exec/measure.h"
#include "split/exec/split_session.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Nanoseconds now() { return Clock::monotonic().now(); }

}  // namespace

std::vector<int> SplitSession::present_members() {
  std::vector<int> present;
  for (int m = 0; m < static_cast<int>(options_.members.size()); ++m) {
    const auto& client = options_.members[at(m)].client;
    if (shunned_until_[at(m)] > now()) continue;
    if (m == options_.host) {
      present.push_back(m);
      continue;
    }
    client->drop_idle();
    const auto answer = client->ping();
    if (answer) present.push_back(m);
    // No token, another identity: worth a word, and not a question of time.
    if (!answer && answer.error().kind != ErrorKind::kDisconnected &&
        answer.error().kind != ErrorKind::kTimeout)
      last_refusal_ =
          fmt::format("{} (the node {})", answer.error().message, options_.members[at(m)].name);
  }
  return present;
}

void SplitSession::shun(int member, const Error& why) {
  log_warn("split node left out name=\"{}\" reason=\"{}\"", options_.members[at(member)].name,
           why.message);
  shunned_until_[at(member)] = now() + shunned_for_[at(member)];
  shunned_for_[at(member)] =
      std::min<Nanoseconds>(shunned_for_[at(member)] * 2, std::chrono::minutes(10));
  last_refusal_ = why.message;
}

// One node's profile, from itself.
Result<profile::NodeRows> SplitSession::measure_member(int m) {
  if (m == options_.host) {
    const BandOptions bands{.channels = block_channels_,
                            .threads = options_.threads,
                            .store = options_.bands,
                            .model = package_->id()};
    return aside([&] { return known_rows(engine_, *graph_, bands, stop_requested_); });
  }
  Assignment ask;  // only its model and shapes matter
  ask.model = package_->id();
  ask.block_channels = block_channels_;
  ask.program.participants = {0};
  ask.program.blocks = {{0, 1, 1, {0, 1}, 0, false}};
  ask.members = {""};
  ask.input_shapes = input_shapes(*graph_);
  const Member& member = options_.members[at(m)];
  OB_CHECK_OK(provide_model(*member.client, *package_));
  OB_TRY(const auto connection, member.client->dedicate());
  OB_TRY(const std::string text, exchange(*connection, wire::FrameKind::kSplitMeasure, encode(ask),
                                          wire::FrameKind::kSplitMeasured));
  OB_TRY(const auto json, profile::parse_json(text, member.name));
  return profile::node_rows_from_json(json, member.name);
}

// What is not known of a node and of its link to this one.
Result<void> SplitSession::complete_member(int m) {
  const auto n = options_.members.size();
  if (!options_.measured_nodes[at(m)]) {
    OB_TRY(auto node, measure_member(m));
    const std::lock_guard lock(mutex_);
    node.name = options_.members[at(m)].name;
    options_.cluster.nodes[at(m)] = std::move(node);
    options_.measured_nodes[at(m)] = 1;
  }
  const auto there = at(options_.host) * n + at(m), back = at(m) * n + at(options_.host);
  if (m == options_.host || options_.measured_links[there]) return {};
  OB_TRY(const profile::Link link, measure_link(*options_.members[at(m)].client));
  const std::lock_guard lock(mutex_);
  options_.cluster.links[there] = options_.cluster.links[back] = link;
  options_.measured_links[there] = options_.measured_links[back] = 1;
  return {};
}

// Measuring takes this node as long as tens of Runs. Where they come, it takes the profile of one
// that is measured already for its own: what a whole Run takes, and trials, say where it differs.
bool SplitSession::borrow_profile(const std::vector<int>& measured) {
  const std::lock_guard lock(mutex_);
  if (options_.measured_nodes[at(options_.host)] || options_.always || !runs_come()) return false;
  for (const int m : measured) {
    const auto& node = options_.cluster.nodes[at(m)];
    if (node.units.empty()) continue;
    const std::string name = options_.members[at(options_.host)].name;
    options_.cluster.nodes[at(options_.host)] = node;
    options_.cluster.nodes[at(options_.host)].name = name;
    options_.measured_nodes[at(options_.host)] = 1;
    return borrowed_profile_ = true;
  }
  return false;
}

// Leaves out who cannot be measured.
Result<void> SplitSession::measure_members(std::vector<int>& present) {
  const auto n = options_.members.size();
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(links_in_doubt_, false)) options_.measured_links = given_links_;
  }
  std::vector<int> measured;
  // This node last: it may go by what the others have found.
  std::sort(present.begin(), present.end(), [&](int a, int b) {
    return std::pair(a == options_.host, a) < std::pair(b == options_.host, b);
  });
  for (int m : present) {
    if (m == options_.host && borrow_profile(measured)) {
      measured.push_back(m);
      continue;
    }
    if (auto done = complete_member(m); done) {
      measured.push_back(m);
    } else if (m == options_.host) {
      return done;
    } else {
      shun(m, std::move(done).error().while_doing("measuring the node (" +
                                                  options_.members[at(m)].name + ")"));
    }
  }
  present = std::move(measured);
  std::sort(present.begin(), present.end());
  // Between two others: the slower of their links to the host, until messages say otherwise.
  const std::lock_guard lock(mutex_);
  for (int a : present)
    for (int b : present) {
      const auto link = at(a) * n + at(b);
      if (a == b || options_.measured_links[link]) continue;
      const profile::Link &x = options_.cluster.links[at(options_.host) * n + at(a)],
                          &y = options_.cluster.links[at(options_.host) * n + at(b)];
      options_.cluster.links[link] = {std::max(x.delay_us, y.delay_us),
                                      std::min(x.rate_bytes_per_s, y.rate_bytes_per_s)};
      options_.measured_links[link] = 1;  // from now on what messages took is applied to it
    }
  return {};
}

}  // namespace outboard::split::exec
