// SPDX-License-Identifier: Apache-2.0
#include "manage/measured/validate.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "manage/measured/table.h"
#include "manage/queueing/swap_queue.h"
#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

using profile::Distribution;
using profile::ModelProfile;

constexpr std::size_t kPoints = 8192;

std::string name_of_file(const Table& table) {
  return std::filesystem::path(table.path()).filename().string();
}

struct Measured {
  double rate_per_s = 0;
  std::vector<double> responses_ms;
};
using Loads = std::map<std::string, std::map<std::string, Measured>>;  // load -> model

Result<Loads> read_requests(const Table& table) {
  const std::size_t model = table.column("model"), rate = table.column("input_rate");
  const std::size_t load = table.column("vary_rho");
  const std::size_t start = table.column("start_time"), end = table.column("end_time");
  Loads loads;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    OB_TRY(const double rate_per_s, table.number(row, rate));
    OB_TRY(const double start_s, table.number(row, start));
    OB_TRY(const double end_s, table.number(row, end));
    if (!(rate_per_s > 0) || end_s < start_s) {
      return error(ErrorKind::kInvalid,
                   "{}: row {}: input_rate ({}) must be positive and end_time ({}) not before "
                   "start_time ({})",
                   table.path(), row + 1, rate_per_s, end_s, start_s);
    }
    Measured& measured = loads[table.text(row, load)][table.text(row, model)];
    measured.rate_per_s = rate_per_s;
    measured.responses_ms.push_back((end_s - start_s) * 1e3);
  }
  return loads;
}

// Sorts.
double quantile(std::vector<double>& x, double probability) {
  std::sort(x.begin(), x.end());
  const double at = probability * static_cast<double>(x.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, x.size() - 1);
  return x[below] + (at - static_cast<double>(below)) * (x[above] - x[below]);
}

double share_over(const std::vector<double>& x, double limit) {
  return static_cast<double>(
             std::count_if(x.begin(), x.end(), [&](double v) { return v > limit; })) /
         static_cast<double>(x.size());
}

Result<const ModelProfile*> profile_of(const std::string& model, const Table& table,
                                       const std::vector<ModelProfile>& profiles) {
  std::string known;
  for (const ModelProfile& p : profiles) {
    if (p.model == model) return &p;
    known += (known.empty() ? "" : ", ") + p.model;
  }
  return error(ErrorKind::kInvalid, "{}: model ({}) has no profile; there are: {}", table.path(),
               model, known);
}

Result<void> compare(const Table& table, const std::vector<ModelProfile>& profiles,
                     SwapSolver& solver, Validation& result) {
  OB_TRY(Loads loads, read_requests(table));
  for (auto& [load, models] : loads) {
    std::vector<SwapModel> system;
    for (auto& [model, measured] : models) {
      OB_TRY(const ModelProfile* p, profile_of(model, table, profiles));
      system.push_back({measured.rate_per_s * 1e-6, p->service, p->swap});
    }
    auto queue = solver.solve(system, {kPoints, Rounding::kMean, 0});
    if (!queue) {
      return tl::make_unexpected(std::move(queue).error().while_doing("predicting load (" + load +
                                                                      ") of " + table.path()));
    }
    std::size_t j = 0;
    for (auto& [model, measured] : models) {
      std::vector<double>& x = measured.responses_ms;
      ValidationPoint point{name_of_file(table),
                            load,
                            model,
                            measured.rate_per_s,
                            queue->utilisation(),
                            x.size(),
                            {},
                            {},
                            {},
                            {},
                            0,
                            0};
      double sum = 0;
      for (const double v : x) sum += v;
      point.mean = {queue->response_mean_us(j) / 1e3, sum / static_cast<double>(x.size())};
      point.p50 = {queue->response_quantile_us(j, 0.50) / 1e3, quantile(x, 0.50)};
      point.p95 = {queue->response_quantile_us(j, 0.95) / 1e3, quantile(x, 0.95)};
      point.p99 = {queue->response_quantile_us(j, 0.99) / 1e3, quantile(x, 0.99)};
      point.over_mean = share_over(x, point.mean.predicted_ms);
      point.over_p95 = share_over(x, point.p95.predicted_ms);
      result.points.push_back(std::move(point));
      ++j;
    }
  }
  return {};
}

// One request of each model at the same moment, by the simulator.
Result<void> compare_concurrency(const Table& table, Validation& result) {
  const std::size_t model = table.column("model"), type = table.column("process_type");
  const std::size_t time = table.column("response_time");
  struct Sums {
    double alone = 0, together = 0;
    int alone_count = 0, together_count = 0;
  };
  std::vector<std::string> order;
  std::map<std::string, Sums> sums;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const std::string& name = table.text(row, model);
    if (!sums.contains(name)) order.push_back(name);
    OB_TRY(const double ms, table.number(row, time));
    const bool alone = table.text(row, type) == "Sequential";
    Sums& s = sums[name];
    (alone ? s.alone : s.together) += ms;
    ++(alone ? s.alone_count : s.together_count);
  }
  const bool fcfs = name_of_file(table).find("fcfs") != std::string::npos;
  System system;
  system.discipline = fcfs ? profile::Discipline::kFcfs : profile::Discipline::kTimeShared;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Sums& s = sums[order[i]];
    if (s.alone <= 0 || s.together_count == 0) {
      return error(ErrorKind::kInvalid, "{}: model ({}) needs Sequential and Concurrent rows",
                   table.path(), order[i]);
    }
    Stream stream;
    stream.name = order[i];
    stream.model = static_cast<int>(i);
    stream.rate_per_s = 1;
    stream.service = Distribution::constant(s.alone / s.alone_count * 1e3);
    stream.arrivals_s = {static_cast<double>(i) * 1e-9};
    system.streams.push_back(std::move(stream));
  }
  OB_TRY(const Simulated run, simulate(system, {}));
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Sums& s = sums[order[i]];
    result.concurrency.push_back({name_of_file(table),
                                  order[i],
                                  {static_cast<double>(run.streams[i].responses_us[0]) / 1e3,
                                   s.together / s.together_count}});
  }
  return {};
}

}  // namespace

double Validation::mape_percent(Compared ValidationPoint::* what) const {
  double sum = 0;
  for (const ValidationPoint& p : points) sum += std::abs((p.*what).error_percent());
  return points.empty() ? 0 : sum / static_cast<double>(points.size());
}

std::vector<ModelProfile> published_profiles() {
  struct Row {
    const char* model;
    double service_ms, swap_ms;
  };
  constexpr Row kRows[] = {{"efficientnet-S", 9.83, 17.33},   {"efficientnet-M", 15.85, 22.63},
                           {"efficientnet-L", 42.18, 17.53},  {"mobilenet_v1", 4.55, 15.12},
                           {"mobilenet_v2", 4.91, 10.43},     {"inception_v3", 62.95, 19.39},
                           {"inception_v4", 125.13, 19.43},   {"ssd_mobilenet_v1", 18.03, 23.93},
                           {"ssd_mobilenet_v2", 19.23, 24.63}};
  std::vector<ModelProfile> profiles;
  for (const Row& row : kRows) {
    ModelProfile p;
    p.model = row.model;
    p.device_kind = "edge-tpu";
    p.service = Distribution::constant(row.service_ms * 1e3);
    p.swap = Distribution::constant(row.swap_ms * 1e3);
    profiles.push_back(std::move(p));
  }
  return profiles;
}

Result<Validation> validate(const std::string& folder, const std::vector<ModelProfile>& profiles) {
  OB_TRY(const auto paths, tables_in(folder));
  Validation result;
  SwapSolver solver;
  for (const std::string& path : paths) {
    OB_TRY(const Table table, Table::read(path));
    if (table.has({"model", "input_rate", "vary_rho", "start_time", "end_time"})) {
      OB_CHECK_OK(compare(table, profiles, solver, result));
    } else if (table.has({"model", "process_type", "response_time"})) {
      OB_CHECK_OK(compare_concurrency(table, result));
    } else {
      result.skipped.push_back(name_of_file(table));
    }
  }
  if (result.points.empty() && result.concurrency.empty()) {
    return error(
        ErrorKind::kInvalid,
        "folder ({}) holds no table of requests: expected .csv or .csv.gz with the columns "
        "model, input_rate, vary_rho, start_time, end_time",
        folder);
  }
  return result;
}

}  // namespace outboard::manage
