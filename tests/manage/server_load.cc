// SPDX-License-Identifier: Apache-2.0
// Real requests to a real server: Poisson arrivals of several models, open loop, each sent at its
// moment whether those before it are answered or not. Writes one line a request.
//
//   server_load ADDRESS SECONDS SEED OUT.csv MODEL.onnx=RATE...
//
// Columns: application (the file's stem), arrival_s (when it was to be sent), response_ms (from
// then to the answer), queue_ms and compute_ms (the server's account), lateness_ms (how much later
// than that a thread took it up: what this machine's scheduler, or a lack of workers, adds).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "cli/profile_host.h"
#include "manage/simulate/random.h"

namespace outboard {
namespace {

constexpr std::size_t kWorkers = 12;  // a model; more than wait at the loads that are measured

struct Request {
  double arrival_s;
  double response_ms = 0, queue_ms = 0, compute_ms = 0, lateness_ms = 0;
};

// One model: its requests wait for one of its workers.
struct Model {
  std::string name;
  std::vector<std::unique_ptr<cli::Subject>> subjects;
  std::vector<Request> requests;
  std::deque<std::size_t> waiting;
  std::mutex mutex;
  std::condition_variable changed;
  bool closed = false;
};

double now_s() { return std::chrono::duration<double>(Clock::monotonic().now()).count(); }

void work(Model& model, cli::Subject& subject, double begin_s, std::atomic<bool>& failed) {
  for (;;) {
    std::size_t at = 0;
    {
      std::unique_lock lock(model.mutex);
      model.changed.wait(lock, [&] { return model.closed || !model.waiting.empty(); });
      if (model.waiting.empty()) return;
      at = model.waiting.front();
      model.waiting.pop_front();
    }
    const double lateness_ms = (now_s() - begin_s - model.requests[at].arrival_s) * 1e3;
    const auto times = subject.run();
    if (!times) {
      failed = true;
      std::fprintf(stderr, "%s\n", times.error().message.c_str());
      return;
    }
    Request& request = model.requests[at];
    request.response_ms = (now_s() - begin_s - request.arrival_s) * 1e3;
    request.lateness_ms = lateness_ms;
    request.queue_ms = times->queue_us / 1e3;
    request.compute_ms = times->compute_us / 1e3;
  }
}

void send(Model& model, double begin_s) {
  for (std::size_t i = 0; i < model.requests.size(); ++i) {
    const double wait_s = begin_s + model.requests[i].arrival_s - now_s();
    if (wait_s > 0) std::this_thread::sleep_for(std::chrono::duration<double>(wait_s));
    const std::lock_guard lock(model.mutex);
    model.waiting.push_back(i);
    model.changed.notify_one();
  }
  const std::lock_guard lock(model.mutex);
  model.closed = true;
  model.changed.notify_all();
}

int run(const std::vector<std::string>& arguments) {
  const double seconds = std::strtod(arguments[1].c_str(), nullptr);
  manage::Random random(std::strtoull(arguments[2].c_str(), nullptr, 10));
  const auto server = wire::parse_endpoint(arguments[0]);
  if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 1;
  std::atomic<bool> stop{false}, failed{false};
  cli::ProgressLine progress;
  auto host = cli::make_remote_host(*server, stop, progress);
  if (!host) return std::fprintf(stderr, "%s\n", host.error().message.c_str()), 1;
  std::deque<Model> models;
  for (std::size_t i = 4; i < arguments.size(); ++i) {
    const auto equals = arguments[i].rfind('=');
    const std::string path = arguments[i].substr(0, equals);
    const double rate_per_s = std::strtod(arguments[i].c_str() + equals + 1, nullptr);
    Model& model = models.emplace_back();
    model.name = std::filesystem::path(path).stem().string();
    for (double t = 0; (t += random.exponential() / rate_per_s) < seconds;) {
      model.requests.push_back({t});
    }
    while (model.subjects.size() < kWorkers) {
      auto opened = (*host)->open(path, {}, stop, progress);
      if (!opened) return std::fprintf(stderr, "%s\n", opened.error().message.c_str()), 1;
      model.subjects.push_back(std::move(opened->subject));
    }
  }
  const double begin_s = now_s() + 0.05;
  std::vector<std::thread> threads;
  for (Model& model : models) {
    for (auto& subject : model.subjects) {
      threads.emplace_back([&] { work(model, *subject, begin_s, failed); });
    }
    threads.emplace_back([&] { send(model, begin_s); });
  }
  for (std::thread& thread : threads) thread.join();
  std::FILE* out = std::fopen(arguments[3].c_str(), "w");
  if (failed || !out) return 1;
  std::fputs("application,arrival_s,response_ms,queue_ms,compute_ms,lateness_ms\n", out);
  for (const Model& model : models) {
    for (const Request& r : model.requests) {
      std::fprintf(out, "%s,%.6f,%.4f,%.4f,%.4f,%.4f\n", model.name.c_str(), r.arrival_s,
                   r.response_ms, r.queue_ms, r.compute_ms, r.lateness_ms);
    }
  }
  return std::fclose(out) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace outboard

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: server_load ADDRESS SECONDS SEED OUT.csv MODEL.onnx=RATE...\n");
    return 2;
  }
  return outboard::run(std::vector<std::string>(argv + 1, argv + argc));
}
