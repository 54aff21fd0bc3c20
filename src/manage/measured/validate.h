// SPDX-License-Identifier: Apache-2.0
// The models against published requests: nothing is fitted.
//
// Two formats (columns in any order, others ignored), both from the data of "Model-driven Cluster
// Resource Management for AI Workloads in Edge Clouds" (arXiv 2201.07312):
//   timed requests   model, input_rate (per s), vary_rho (names the load), start_time, end_time
//   (s):
//                    models that share one edge TPU; each (load, model) is a point
//   concurrency      model, process_type (Sequential or Concurrent), response_time (ms): one
//   request
//                    of each model at once, beside each alone. Files with `fcfs` in the name are
//                    one queue, in the order of the models; others share time.
// The services and switch overheads are the published ones, or those of `profiles`.
// Reads files; thread-safe.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "profile/model.h"

namespace outboard::manage {

struct Compared {
  double predicted_ms = 0;
  double measured_ms = 0;
  double error_percent() const { return (predicted_ms / measured_ms - 1) * 100; }
};

struct ValidationPoint {
  std::string file;
  std::string load;
  std::string model;
  double rate_per_s = 0;
  double utilisation = 0;
  std::size_t requests = 0;
  Compared mean, p50, p95, p99;
  // Share of the requests that took longer than the predicted mean, and than the predicted p95.
  double over_mean = 0, over_p95 = 0;
};

struct ConcurrencyPoint {
  std::string file;
  std::string model;
  Compared mean;
};

struct Validation {
  std::vector<ValidationPoint> points;
  std::vector<ConcurrencyPoint> concurrency;
  std::vector<std::string> skipped;  // tables of another format

  // Mean absolute percentage error over the points.
  double mape_percent(Compared ValidationPoint::* what) const;
};

// Service and switch overhead of the models on one edge TPU, as published (arXiv 2201.07312).
std::vector<profile::ModelProfile> published_profiles();

// kInvalid: a model without a profile (the sentence lists those there are), a bad number, a folder
// without any such table.
Result<Validation> validate(const std::string& folder,
                            const std::vector<profile::ModelProfile>& profiles);

}  // namespace outboard::manage
