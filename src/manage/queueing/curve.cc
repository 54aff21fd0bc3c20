// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "manage/queueing/predict.h"

namespace outboard::manage {

Curve::Curve(std::vector<double> time_us, std::vector<double> probability)
    : time_us_(std::move(time_us)), probability_(std::move(probability)) {
  OB_CHECK(time_us_.size() == probability_.size());
}

double Curve::cdf(double time_us) const {
  const auto above = std::upper_bound(time_us_.begin(), time_us_.end(), time_us);
  if (above == time_us_.begin()) return 0;
  const auto i = static_cast<std::size_t>(above - time_us_.begin());
  if (above == time_us_.end()) return probability_.back();
  const double part = (time_us - time_us_[i - 1]) / (time_us_[i] - time_us_[i - 1]);
  return probability_[i - 1] + part * (probability_[i] - probability_[i - 1]);
}

double Curve::quantile_us(double probability) const {
  const auto at = std::lower_bound(probability_.begin(), probability_.end(), probability);
  if (at == probability_.end()) return std::numeric_limits<double>::infinity();
  const auto i = static_cast<std::size_t>(at - probability_.begin());
  if (i == 0) return time_us_.front();
  const double rise = probability_[i] - probability_[i - 1];
  return time_us_[i - 1] +
         (probability - probability_[i - 1]) / rise * (time_us_[i] - time_us_[i - 1]);
}

std::string_view name_of(Method method) {
  switch (method) {
    case Method::kExact:
      return "exact";
    case Method::kApproximate:
      return "approximate";
    case Method::kSimulated:
      return "simulated";
    case Method::kTrace:
      return "trace";
  }
  return "unknown";
}

std::string_view Terms::dominant() const {
  struct Named {
    double value;
    std::string_view name;
  };
  const Named terms[] = {{service_us, "service"},
                         {swap_us, "swap"},
                         {queue_us, "queue"},
                         {sharing_us, "sharing"},
                         {outside_us, "outside"}};
  return std::max_element(std::begin(terms), std::end(terms),
                          [](const Named& a, const Named& b) { return a.value < b.value; })
      ->name;
}

}  // namespace outboard::manage
