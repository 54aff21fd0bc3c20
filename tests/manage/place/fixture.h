// SPDX-License-Identifier: Apache-2.0
// Small clusters for the placement tests, and a judge that can be computed by hand.
#pragma once

#include <string>
#include <vector>

#include "manage/place/fleet.h"
#include "manage/place/judge.h"
#include "manage/place/placer.h"

namespace outboard::manage::test {

// By hand: with u the utilisation of the load, every part's percentile is its service time plus
// swap (when another copy is there), divided by 1 - u; the mean is the same; no error.
class HandJudge : public Judge {
 public:
  Result<Verdict> judge(const Load& load) override {
    ++judged;
    const double u = utilisation(load);
    if (u >= 1) return error(ErrorKind::kInvalid, "utilisation ({:.2f}) must be below 1", u);
    Verdict verdict;
    for (const LoadPart& part : load.parts) {
      const double own = own_us(load, part);
      Reply reply;
      reply.mean_us = reply.percentile_us = own / (1 - u);
      const double service = part.profile->service.mean_us();
      reply.terms_us = {service, own - service, reply.mean_us - own, 0, 0};
      verdict.parts.push_back(reply);
    }
    return verdict;
  }
  Result<std::vector<Range>> screen(const Load& load) override {
    std::vector<Range> ranges;
    for (const LoadPart& part : load.parts) {
      const double own = own_us(load, part);
      ranges.push_back({own, own, 1e18});
    }
    return ranges;
  }

  int judged = 0;

 private:
  static double own_us(const Load& load, const LoadPart& part) {
    bool other = false;
    for (const LoadPart& p : load.parts) other |= p.copy != part.copy;
    return part.profile->service.mean_us() + (other ? part.profile->swap.mean_us() : 0);
  }
};

inline profile::Device device(const std::string& name, const std::string& kind,
                              double memory_bytes = 0) {
  profile::Device d;
  d.name = name;
  d.kind = kind;
  d.memory_bytes = static_cast<std::uint64_t>(memory_bytes);
  return d;
}

inline profile::ModelProfile model(const std::string& name, const std::string& kind,
                                   double service_ms, double swap_ms = 0, double memory_bytes = 0) {
  profile::ModelProfile m;
  m.model = name;
  m.device_kind = kind;
  m.service = profile::Distribution::constant(service_ms * 1e3);
  m.swap = profile::Distribution::constant(swap_ms * 1e3);
  m.memory_bytes = static_cast<std::uint64_t>(memory_bytes);
  return m;
}

inline profile::Application app(const std::string& name, const std::string& model, double rate,
                                double limit_ms, double percentile = 95) {
  profile::Application a;
  a.name = name;
  a.model = model;
  a.rate_per_s = rate;
  a.limit = {percentile, limit_ms};
  return a;
}

inline Fleet fleet_of(profile::Cluster cluster) {
  auto fleet = Fleet::of(std::move(cluster));
  if (!fleet) throw std::runtime_error(fleet.error().message);
  return *std::move(fleet);
}

}  // namespace outboard::manage::test
