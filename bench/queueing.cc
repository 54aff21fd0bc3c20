// SPDX-License-Identifier: Apache-2.0
// Speed, memory and accuracy of the queueing models, as JSON for bench/queueing.py.
//
//   bench_queueing speed SECONDS      repetitions of each figure, 11 applications on one device
//   bench_queueing accuracy SYSTEMS   random systems against the simulator
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "manage/queueing/mixture_queue.h"
#include "manage/queueing/predict.h"
#include "manage/queueing/swap_bounds.h"
#include "manage/queueing/swap_queue.h"
#include "manage/simulate/random.h"
#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

using profile::Discipline;
using profile::Distribution;

// Of this thread on a core, so that what else the machine does counts little.
double now_s() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Times per second of one core that `work` can be done, in blocks of a tenth of the time.
void rate(const char* name, double seconds, const std::function<double()>& work,
          bool last = false) {
  std::printf("  \"%s\": [", name);
  volatile double sink = work();
  for (int block = 0; block < 10; ++block) {
    const double begin = now_s();
    double done = 0;
    while (now_s() - begin < seconds / 10) done += work();
    std::printf("%s%.1f", block ? ", " : "", done / (now_s() - begin));
  }
  (void)sink;
  std::printf("]%s\n", last ? "" : ",");
}

// Eleven applications of the published edge TPU models (two of them twice, as other models) at
// rho 0.7.
std::vector<SwapModel> eleven() {
  const double service[] = {9.83,   15.85, 42.18, 4.55, 4.91, 62.95,
                            125.13, 18.03, 19.23, 9.83, 18.03};
  const double swap[] = {17.33, 22.63, 17.53, 15.12, 10.43, 19.39,
                         19.43, 23.93, 24.63, 17.31, 23.9};
  std::vector<SwapModel> models;
  for (int j = 0; j < 11; ++j) {
    models.push_back({1e-6 * (1 + j % 4), Distribution::constant(service[j] * 1e3),
                      Distribution::constant(swap[j] * 1e3)});
  }
  const double factor = 0.7 / utilisation(models);
  for (SwapModel& m : models) m.rate_per_us *= factor;
  return models;
}

System system_of(const std::vector<SwapModel>& models, Discipline discipline) {
  System system;
  system.discipline = discipline;
  for (std::size_t j = 0; j < models.size(); ++j) {
    Stream s;
    s.name = std::to_string(j);
    s.model = static_cast<int>(j);
    s.rate_per_s = models[j].rate_per_us * 1e6;
    s.service = models[j].service;
    s.swap = models[j].swap;
    s.priority = static_cast<int>(j);
    s.limit = {95, 10 * models[j].service.mean_us() / 1e3};
    s.batch =
        profile::BatchTime{models[j].service.mean_us() * 0.3, models[j].service.mean_us() * 0.7, 8};
    system.streams.push_back(std::move(s));
  }
  return system;
}

// Largest relative difference of p95 and p99 over the models.
double error(const SwapQueue& queue, const SwapQueue& fine) {
  double worst = 0;
  for (std::size_t j = 0; j < queue.models(); ++j) {
    for (const double p : {0.95, 0.99}) {
      const double truth = fine.response_quantile_us(j, p);
      worst = std::max(worst, std::abs(queue.response_quantile_us(j, p) / truth - 1));
    }
  }
  return 100 * worst;
}

int speed(double seconds) {
  auto models = eleven();
  SwapSolver solver;
  MixtureQueue mixture;
  Predictor predictor;
  System system = system_of(models, Discipline::kFcfs);
  const auto fine = solver.solve(models, {65536, Rounding::kMean, 0});
  const auto usual = solver.solve(models);
  const auto quarter = solver.solve(models, {1024, Rounding::kUp, 250});
  std::printf("{\n  \"exact_error_percent\": %.4f,\n  \"quarter_ms_error_percent\": %.4f,\n",
              error(*usual, *fine), quarter ? error(*quarter, *fine) : -1);
  std::printf("  \"exact_step_us\": %.1f,\n", usual->step_us());
  rate("bounds_per_s", seconds, [&] { return predictor.bounds(system) ? 1.0 : 0.0; });
  rate("screen_per_s", seconds, [&] { return mixture.solve(models) ? 1.0 : 0.0; });
  rate("exact_per_s", seconds, [&] { return solver.solve(models) ? 1.0 : 0.0; });
  int turn = 0;
  rate("exact_one_changed_per_s", seconds, [&] {
    models[3].rate_per_us *= ++turn % 2 ? 1.1 : 1 / 1.1;
    return solver.solve(models) ? 1.0 : 0.0;
  });
  rate("predict_per_s", seconds, [&] { return predictor.predict(system, {}) ? 1.0 : 0.0; });
  const std::pair<const char*, Discipline> disciplines[] = {
      {"fcfs", Discipline::kFcfs},
      {"time_shared", Discipline::kTimeShared},
      {"sharing", Discipline::kProcessorSharing},
      {"batching", Discipline::kBatching},
      {"priority", Discipline::kPriority},
      {"edf", Discipline::kEdf}};
  for (const auto& [name, discipline] : disciplines) {
    system.discipline = discipline;
    rate((std::string("simulator_") + name + "_events_per_s").c_str(), seconds, [&] {
      return static_cast<double>(simulate(system, {.seed = 1, .requests = 100000})->events);
    });
  }
  const double cdf_bytes =
      static_cast<double>(usual->points() * (models.size() + 1) * sizeof(double));
  std::printf("  \"exact_bytes_per_device\": %.0f,\n  \"system_bytes_per_application\": %zu\n}\n",
              cdf_bytes, sizeof(Stream) + 4 * sizeof(profile::Atom));
  return 0;
}

std::vector<SwapModel> random_models(Random& random, std::size_t least, double most_rho) {
  std::vector<SwapModel> models(least + random.bits() % 5);
  for (SwapModel& m : models) {
    m.service = Distribution::constant(10e3 * std::pow(10, random.uniform()));
    m.swap = Distribution::constant(30e3 * random.uniform());
    m.rate_per_us = (0.2 + random.uniform()) / m.service.mean_us();
  }
  const double rho = 0.2 + (most_rho - 0.2) * random.uniform(), now = utilisation(models);
  for (SwapModel& m : models) m.rate_per_us *= rho / now;
  return models;
}

void compare(const char* name, const System& system, Predictor& predictor,
             const Predictor::Options& options, const Simulated& truth, bool& first) {
  const auto answer = predictor.predict(system, options);
  if (!answer) return;
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Estimate mean = truth.streams[i].mean(), p95 = truth.streams[i].quantile(0.95);
    std::printf(
        "%s  {\"model\": \"%s\", \"rho\": %.3f, \"mean\": %.4f, \"p95\": %.4f, \"mean_ci\": %.4f, "
        "\"p95_ci\": %.4f}",
        first ? "" : ",\n", name, system.utilisation(), answer->streams[i].mean_us / mean.value - 1,
        answer->streams[i].percentile_us / p95.value - 1, mean.error / mean.value,
        p95.error / p95.value);
    first = false;
  }
}

int accuracy(int systems) {
  Random random(2024);
  Predictor predictor;
  bool first = true;
  std::printf("[\n");
  for (int n = 0; n < systems; ++n) {
    auto models = random_models(random, 2, 0.8);
    System system = system_of(models, Discipline::kFcfs);
    for (Stream& s : system.streams) s.limit = {};
    const SimulateOptions judge{1000 + static_cast<std::uint64_t>(n), 1000000, 0.05};
    auto truth = simulate(system, judge);
    compare("fcfs_exact", system, predictor, {}, *truth, first);
    compare("fcfs_screen", system, predictor, {.effort = Effort::kScreen}, *truth, first);
    const double share = utilisation(models);
    for (SwapModel& m : models) m.swap = Distribution();
    const double factor = share / utilisation(models);
    for (Stream& s : system.streams) s.rate_per_s *= factor;
    system.discipline = Discipline::kTimeShared;
    truth = simulate(system, judge);
    compare("time_shared", system, predictor, {}, *truth, first);
    compare("time_shared_screen", system, predictor, {.effort = Effort::kScreen}, *truth, first);
    system.discipline = Discipline::kProcessorSharing;
    truth = simulate(system, judge);
    compare("processor_sharing", system, predictor, {}, *truth, first);
  }
  std::printf("\n]\n");
  return 0;
}

}  // namespace
}  // namespace outboard::manage

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "speed") {
    return outboard::manage::speed(std::atof(argv[2]));  // NOLINT
  }
  if (argc == 3 && std::string(argv[1]) == "accuracy") {
    return outboard::manage::accuracy(std::atoi(argv[2]));  // NOLINT
  }
  std::fprintf(stderr, "usage: bench_queueing speed SECONDS | accuracy SYSTEMS\n");
  return 2;
}
