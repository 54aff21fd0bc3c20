// SPDX-License-Identifier: Apache-2.0
#include "manage/simulate/arrivals.h"

#include <algorithm>
#include <limits>

namespace outboard::manage {
namespace {

std::vector<double> rates(const System& system) {
  std::vector<double> rates;
  rates.reserve(system.streams.size());
  for (const Stream& s : system.streams) rates.push_back(s.rate_per_s);
  return rates;
}

}  // namespace

Arrivals::Arrivals(const System& system, Random& random) : random_(random), which_(rates(system)) {
  double total_per_s = 0;
  bool poisson = true;
  origin_s_ = std::numeric_limits<double>::infinity();
  for (const Stream& s : system.streams) {
    total_per_s += s.rate_per_s;
    const bool trace = !s.arrivals_s.empty();
    if (trace) origin_s_ = std::min(origin_s_, s.arrivals_s.front());
    all_traces_ = all_traces_ && trace;
    any_trace_ = any_trace_ || trace;
    poisson = poisson && !trace && s.burstiness == profile::Burstiness{};
  }
  gap_us_ = 1e6 / total_per_s;
  if (poisson) return;
  for (const Stream& s : system.streams) {
    Source source{&s, fit_mmpp2(s.rate_per_s, s.burstiness)};
    source.state = random_.uniform() < source.mmpp.share_of_first() ? 0 : 1;
    advance(source);
    sources_.push_back(source);
  }
}

void Arrivals::advance(Source& source) {
  if (!source.stream->arrivals_s.empty()) {
    const auto& trace = source.stream->arrivals_s;
    source.next_us = source.index < trace.size() ? (trace[source.index++] - origin_s_) * 1e6
                                                 : std::numeric_limits<double>::infinity();
    return;
  }
  for (;;) {
    const double arrive = source.mmpp.rate_per_s[source.state];
    const double leave = source.mmpp.leave_per_s[source.state];
    source.next_us += random_.exponential() * 1e6 / (arrive + leave);
    if (leave <= 0 || random_.uniform() * (arrive + leave) < arrive) return;
    source.state = 1 - source.state;
  }
}

Arrivals::Next Arrivals::next() {
  if (sources_.empty()) {
    now_us_ += random_.exponential() * gap_us_;
    return {now_us_, static_cast<int>(which_.index(random_))};
  }
  std::size_t first = 0;
  for (std::size_t i = 1; i < sources_.size(); ++i) {
    if (sources_[i].next_us < sources_[first].next_us) first = i;
  }
  const Next next{sources_[first].next_us, static_cast<int>(first)};
  if (next.time_us < std::numeric_limits<double>::infinity()) advance(sources_[first]);
  return next;
}

}  // namespace outboard::manage
