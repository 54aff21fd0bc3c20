// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/swap_bounds.h"

#include <algorithm>
#include <cmath>

namespace outboard::manage {
namespace {

double exponential_moment(const profile::Distribution& times, double eta) {
  double sum = 0;
  for (const profile::Atom& a : times.atoms()) sum += a.probability * std::exp(eta * a.time_us);
  return sum;
}

}  // namespace

Result<SwapBounds> SwapBounds::of(std::span<const SwapModel> models) {
  OB_CHECK_OK(check_models(models));
  SwapBounds bounds;
  const double eta = bounds.decay_per_us_ = decay_rate_per_us(models);
  double rate = 0;
  for (const SwapModel& m : models) rate += m.rate_per_us;
  double total = 0;
  for (const SwapModel& m : models) {
    Model model;
    model.share = m.rate_per_us / rate;
    model.service = exponential_moment(m.service, eta);
    model.swapped = model.service * exponential_moment(m.swap, eta);
    model.weight =
        model.swapped / ((rate + eta) / rate - model.share * (model.service - model.swapped));
    model.least_us = m.service.min_us();
    model.times = m.service;
    total += model.share * model.weight;
    bounds.longest_us_ = std::max(bounds.longest_us_, m.service.max_us() + m.swap.max_us());
    bounds.models_.push_back(std::move(model));
  }
  bounds.least_weight_ = HUGE_VAL;
  for (Model& m : bounds.models_) {
    m.weight /= total;
    bounds.least_weight_ = std::min(bounds.least_weight_, m.weight);
    bounds.most_weight_ = std::max(bounds.most_weight_, m.weight);
  }
  return bounds;
}

double SwapBounds::upper_us(std::size_t model, double probability) const {
  const Model& m = models_[model];
  const double own = m.share * m.weight;
  const double moment = (own * m.service + (1 - own) * m.swapped) / least_weight_;
  return std::log(moment / (1 - probability)) / decay_per_us_;
}

double SwapBounds::lower_us(std::size_t model, double probability) const {
  const Model& m = models_[model];
  // P(response > t) >= P(V > t - s) for the shortest service s; the weights average to 1.
  const double tail = -std::log(most_weight_ * (1 - probability)) / decay_per_us_;
  return std::max(m.times.quantile_us(probability), tail - longest_us_ + m.least_us);
}

}  // namespace outboard::manage
