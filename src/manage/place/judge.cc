// SPDX-License-Identifier: Apache-2.0
#include "manage/place/judge.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <tuple>

namespace outboard::manage {
namespace {

template <typename T>
void append(std::string& key, const T& value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append(std::string& key, const profile::Distribution& times) {
  append(key, times.atoms().size());
  for (const auto& atom : times.atoms()) append(key, atom);
}

// Everything of a part that a latency model reads. Profiles are immutable and live as long as the
// fleet, so that their address stands for them; a trace is long and stands by its address, too.
// Names come first: the order of keys is the order in which a load is simulated, and must not hang
// on where things are in memory.
std::string key_of(const LoadPart& part) {
  std::string key;
  key.reserve(96);
  const auto& app = *part.application;
  key += part.profile->model;
  key += '\n';
  key += part.profile->device_kind;
  key += '\n';
  append(key, part.copy);
  append(key, part.rate_per_s());
  append(key, app.limit.percentile);
  append(key, app.limit.latency_ms);
  append(key, app.priority);
  if (!app.arrivals_s.empty()) {
    key += app.name;
    append(key, reinterpret_cast<std::uintptr_t>(&app));
    append(key, part.share);
    append(key, app.arrivals_s.size());
    append(key, app.arrivals_s.front());
    append(key, app.arrivals_s.back());
  } else if (app.burstiness != profile::Burstiness{}) {
    append(key, part.share);
    append(key, app.burstiness.gap_scv);
    for (const auto& point : app.burstiness.idc) append(key, point);
  }
  append(key, reinterpret_cast<std::uintptr_t>(part.profile));
  return key;
}

// The load in a form of its own: parts sorted by what they are, copies renumbered in that order.
// `order[i]` is the place in the load of the i-th part of the form.
std::string key_of(const Load& load, std::vector<std::size_t>& order) {
  Load shape = load;
  // Copies are renumbered by what runs on them, so that their numbers carry no names.
  std::vector<std::pair<std::string, int>> copies;
  for (LoadPart& part : shape.parts) {
    const int copy = part.copy;
    part.copy = 0;
    std::string key = key_of(part);
    auto known = std::find_if(copies.begin(), copies.end(),
                              [&](const auto& entry) { return entry.second == copy; });
    if (known == copies.end()) {
      copies.emplace_back(std::move(key), copy);
    } else {
      known->first = std::min(known->first, key);
    }
  }
  std::sort(copies.begin(), copies.end());
  std::vector<std::string> keys;
  keys.reserve(shape.parts.size());
  for (std::size_t i = 0; i < shape.parts.size(); ++i) {
    const auto at = std::find_if(copies.begin(), copies.end(), [&](const auto& entry) {
      return entry.second == load.parts[i].copy;
    });
    shape.parts[i].copy = static_cast<int>(at - copies.begin());
    keys.push_back(key_of(shape.parts[i]));
  }
  order.resize(keys.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(keys[a], a) < std::tie(keys[b], b);
  });
  std::string key;
  append(key, load.device->discipline);
  append(key, load.device->servers);
  append(key, load.device->batch_wait_us);
  append(key, load.device->network);
  for (std::size_t i : order) {
    append(key, keys[i].size());
    key += keys[i];
  }
  return key;
}

Load in_order(const Load& load, const std::vector<std::size_t>& order) {
  Load sorted{load.device, {}};
  sorted.parts.reserve(order.size());
  for (std::size_t i : order) sorted.parts.push_back(load.parts[i]);
  return sorted;
}

}  // namespace

std::string_view name_of(Term term) {
  switch (term) {
    case Term::kService:
      return "service";
    case Term::kSwap:
      return "swap";
    case Term::kQueue:
      return "queue";
    case Term::kSharing:
      return "sharing";
    case Term::kOutside:
      return "network and host";
  }
  return "?";
}

Result<Verdict> RememberingJudge::judge(const Load& load) {
  ++asked_;
  std::vector<std::size_t> order;
  std::string key = key_of(load, order);
  auto known = verdicts_.find(key);
  if (known == verdicts_.end()) {
    if (verdicts_.size() >= most_) {
      verdicts_.clear();
      ranges_.clear();
      key_bytes_ = 0;
    }
    ++computed_;
    OB_TRY(Verdict answer, judge_.judge(in_order(load, order)));
    key_bytes_ += key.size();
    known = verdicts_.emplace(std::move(key), std::move(answer)).first;
  }
  Verdict verdict;
  verdict.parts.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) verdict.parts[order[i]] = known->second.parts[i];
  return verdict;
}

Result<std::vector<Range>> RememberingJudge::screen(const Load& load) {
  std::vector<std::size_t> order;
  std::string key = key_of(load, order);
  auto known = ranges_.find(key);
  if (known == ranges_.end()) {
    if (ranges_.size() >= most_) ranges_.clear();
    OB_TRY(std::vector<Range> answer, judge_.screen(in_order(load, order)));
    key_bytes_ += key.size();
    known = ranges_.emplace(std::move(key), std::move(answer)).first;
  }
  std::vector<Range> ranges(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) ranges[order[i]] = known->second[i];
  return ranges;
}

std::size_t RememberingJudge::memory_bytes() const {
  std::size_t bytes = key_bytes_;
  constexpr std::size_t kNode = 96;  // a hash node, its string and its vector
  for (const auto& [key, answer] : verdicts_) bytes += kNode + answer.parts.size() * sizeof(Reply);
  for (const auto& [key, answer] : ranges_) bytes += kNode + answer.size() * sizeof(Range);
  return bytes;
}

}  // namespace outboard::manage
