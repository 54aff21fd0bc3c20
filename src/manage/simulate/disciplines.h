// SPDX-License-Identifier: Apache-2.0
// The disciplines of simulate.h. Each has `arrive(job)`, called with rising times, which first does
// what happens until then, and `drain()`, which ends what is left. A request that ends goes to the
// sink with its response on the device. Thread-safety: one thread. Units: microseconds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <queue>
#include <vector>

#include "manage/queueing/system.h"

namespace outboard::manage {

struct Job {
  double arrival_us;
  double service_us;
  double swap_us;  // paid if it must be
  int stream;
  int model;
  double key;  // what the queue is ordered by
};

constexpr double kNever = std::numeric_limits<double>::infinity();

template <typename Sink>
class Fcfs {
 public:
  Fcfs(const System& system, Sink& sink)
      : sink_(sink), free_(static_cast<std::size_t>(system.servers), {0, -1}) {}
  void arrive(const Job& job) {
    auto* unit = &free_[0];
    for (auto& other : free_) {
      if (other.at_us < unit->at_us) unit = &other;
    }
    const double swap = unit->model >= 0 && unit->model != job.model ? job.swap_us : 0;
    unit->at_us = std::max(unit->at_us, job.arrival_us) + swap + job.service_us;
    unit->model = job.model;
    sink_.end(job, unit->at_us - job.arrival_us, swap, 0);
  }
  void drain() {}

 private:
  struct Unit {
    double at_us;
    int model;
  };
  Sink& sink_;
  std::vector<Unit> free_;
};

// The smallest key first, first come first served among equals; not pre-empted.
template <typename Sink>
class Ordered {
 public:
  Ordered(const System& system, Sink& sink)
      : sink_(sink), free_(static_cast<std::size_t>(system.servers), {0, -1}) {}
  void arrive(const Job& job) {
    serve_until(job.arrival_us);
    waiting_.push(job);
  }
  void drain() { serve_until(kNever); }

 private:
  struct Unit {
    double at_us;
    int model;
  };
  struct Later {
    bool operator()(const Job& a, const Job& b) const {
      return a.key != b.key ? a.key > b.key : a.arrival_us > b.arrival_us;
    }
  };
  // Starts everything that starts before `now`.
  void serve_until(double now_us) {
    while (!waiting_.empty()) {
      auto* unit = &free_[0];
      for (auto& other : free_) {
        if (other.at_us < unit->at_us) unit = &other;
      }
      if (unit->at_us >= now_us) return;
      const Job job = waiting_.top();
      // A unit that is free takes the request as it comes, which was before `now`.
      const double start = std::max(unit->at_us, job.arrival_us);
      waiting_.pop();
      const double swap = unit->model >= 0 && unit->model != job.model ? job.swap_us : 0;
      unit->at_us = start + swap + job.service_us;
      unit->model = job.model;
      sink_.end(job, unit->at_us - job.arrival_us, swap, 0);
    }
  }
  Sink& sink_;
  std::vector<Unit> free_;
  std::priority_queue<Job, std::vector<Job>, Later> waiting_;
};

// A queue a model; the models that are busy share the device.
template <typename Sink>
class TimeShared {
 public:
  TimeShared(const System& system, Sink& sink) : sink_(sink) {
    for (const Stream& s : system.streams) {
      const auto model = static_cast<std::size_t>(s.model);
      if (queues_.size() <= model) queues_.resize(model + 1);
      queues_[model].slow_down = s.slow_down_per_other;
    }
  }
  void arrive(const Job& job) {
    run_until(job.arrival_us);
    Queue& queue = queues_[static_cast<std::size_t>(job.model)];
    if (queue.jobs.empty()) {
      queue.left_us = job.service_us;
      queue.started_us = now_us_;
      busy_.push_back(job.model);
      rates();
    }
    queue.jobs.push_back(job);
  }
  void drain() { run_until(kNever); }

 private:
  struct Queue {
    std::deque<Job> jobs;
    double left_us = 0;     // of the first, at full speed
    double started_us = 0;  // when the first became so
    double rate = 1;
    double slow_down = 1;
  };
  void rates() {
    const double n = static_cast<double>(busy_.size());
    for (const int model : busy_) {
      Queue& queue = queues_[static_cast<std::size_t>(model)];
      double rate = 1 / n;
      if (queue.slow_down != 1) rate /= std::pow(queue.slow_down, n - 1);
      queue.rate = rate;
    }
  }
  void run_until(double until_us) {
    while (!busy_.empty()) {
      double first_us = kNever;
      std::size_t which = 0;
      for (std::size_t i = 0; i < busy_.size(); ++i) {
        const Queue& queue = queues_[static_cast<std::size_t>(busy_[i])];
        const double ends = queue.left_us / queue.rate;
        if (ends < first_us) first_us = ends, which = i;
      }
      const double step = std::min(first_us, until_us - now_us_);
      for (const int model : busy_) {
        Queue& queue = queues_[static_cast<std::size_t>(model)];
        queue.left_us -= step * queue.rate;
      }
      now_us_ += step;
      if (step < first_us) return;
      end_first(which);
    }
    now_us_ = until_us;
  }
  void end_first(std::size_t which) {
    Queue& queue = queues_[static_cast<std::size_t>(busy_[which])];
    const Job& job = queue.jobs.front();
    sink_.end(job, now_us_ - job.arrival_us, 0, now_us_ - queue.started_us - job.service_us);
    queue.jobs.pop_front();
    queue.started_us = now_us_;
    if (queue.jobs.empty()) {
      busy_[which] = busy_.back();
      busy_.pop_back();
      rates();
    } else {
      queue.left_us = queue.jobs.front().service_us;
    }
  }
  Sink& sink_;
  std::vector<Queue> queues_;
  std::vector<int> busy_;
  double now_us_ = 0;
};

// Every request at 1/n. With the service that each has had as the clock, a request ends when the
// clock shows what it showed at its arrival plus its service.
template <typename Sink>
class ProcessorSharing {
 public:
  ProcessorSharing(const System&, Sink& sink) : sink_(sink) {}
  void arrive(Job job) {
    run_until(job.arrival_us);
    job.key = served_us_ + job.service_us;
    jobs_.push(job);
  }
  void drain() { run_until(kNever); }

 private:
  struct Later {
    bool operator()(const Job& a, const Job& b) const { return a.key > b.key; }
  };
  void run_until(double until_us) {
    while (!jobs_.empty()) {
      const double n = static_cast<double>(jobs_.size());
      const double ends_us = now_us_ + (jobs_.top().key - served_us_) * n;
      if (ends_us > until_us) {
        served_us_ += (until_us - now_us_) / n;
        break;
      }
      now_us_ = ends_us;
      served_us_ = jobs_.top().key;
      const double response_us = now_us_ - jobs_.top().arrival_us;
      sink_.end(jobs_.top(), response_us, 0, response_us - jobs_.top().service_us);
      jobs_.pop();
    }
    if (jobs_.empty()) served_us_ = 0;  // keeps the clock's digits
    now_us_ = until_us;
  }
  Sink& sink_;
  std::priority_queue<Job, std::vector<Job>, Later> jobs_;
  double now_us_ = 0;
  double served_us_ = 0;
};

template <typename Sink>
class Batching {
 public:
  Batching(const System& system, Sink& sink) : sink_(sink), wait_us_(system.batch_wait_us) {
    for (const Stream& s : system.streams) {
      const auto model = static_cast<std::size_t>(s.model);
      if (queues_.size() <= model) queues_.resize(model + 1);
      queues_[model].times = s.batch.value_or(profile::BatchTime{});
    }
  }
  void arrive(const Job& job) {
    serve_until(job.arrival_us);
    queues_[static_cast<std::size_t>(job.model)].jobs.push_back(job);
  }
  void drain() { serve_until(kNever); }

 private:
  struct Queue {
    std::deque<Job> jobs;
    profile::BatchTime times;
  };
  // When a queue may start: full, or its first has waited long enough.
  double ready_us(const Queue& queue) const {
    const auto full = static_cast<std::size_t>(queue.times.max_batch);
    const double wait_until = queue.jobs.front().arrival_us + wait_us_;
    return queue.jobs.size() >= full ? std::min(wait_until, queue.jobs[full - 1].arrival_us)
                                     : wait_until;
  }
  void serve_until(double now_us) {
    for (;;) {
      Queue* next = nullptr;
      int model = 0;
      double start_us = kNever, oldest_us = kNever;
      for (std::size_t i = 0; i < queues_.size(); ++i) {
        if (queues_[i].jobs.empty()) continue;
        const double ready = std::max(free_us_, ready_us(queues_[i]));
        const double oldest = queues_[i].jobs.front().arrival_us;
        if (ready < start_us || (ready == start_us && oldest < oldest_us)) {
          next = &queues_[i], model = static_cast<int>(i), start_us = ready, oldest_us = oldest;
        }
      }
      if (!next || start_us >= now_us) return;
      serve(*next, model, start_us);
    }
  }
  void serve(Queue& queue, int model, double start_us) {
    const auto count =
        std::min<std::size_t>(queue.jobs.size(), static_cast<std::size_t>(queue.times.max_batch));
    const double swap = last_ >= 0 && last_ != model ? queue.jobs.front().swap_us : 0;
    last_ = model;
    free_us_ =
        start_us + swap + queue.times.base_us + queue.times.slope_us * static_cast<double>(count);
    for (std::size_t i = 0; i < count; ++i) {
      const double others_us = queue.times.slope_us * static_cast<double>(count - 1);
      Job& job = queue.jobs.front();
      job.service_us = queue.times.base_us + queue.times.slope_us;
      sink_.end(job, free_us_ - job.arrival_us, swap, others_us);
      queue.jobs.pop_front();
    }
  }
  Sink& sink_;
  double wait_us_;
  std::vector<Queue> queues_;
  double free_us_ = 0;
  int last_ = -1;
};

}  // namespace outboard::manage
