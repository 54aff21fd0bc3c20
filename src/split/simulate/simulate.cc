// SPDX-License-Identifier: Apache-2.0
#include "split/simulate/simulate.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace outboard::split {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

class Simulator {
 public:
  Simulator(const Cluster& cluster, const Plan& plan, const std::vector<Layout>& layouts,
            const SimulateOptions& options)
      : cluster_(cluster), plan_(plan), layouts_(layouts), options_(options) {
    const auto n = cluster.nodes.size();
    ready_.resize(n);
    outbox_.resize(n);
    computing_.assign(n, 0);
    sending_.assign(n, 0);
    receiving_.assign(n, 0);
    result_.busy_us.assign(n, 0);
    result_.sent_bytes.assign(n, 0);
  }

  Schedule run() {
    add_tasks();
    for (std::size_t i = 0; i < cluster_.nodes.size(); ++i)
      if (cluster_.nodes[i].busy_us > 0) {
        computing_[i] = 1;
        events_.push({options_.start_us + cluster_.nodes[i].busy_us, -1 - static_cast<int>(i)});
      }
    now_ = options_.start_us;
    start_all();
    while (!events_.empty()) {
      now_ = events_.top().time;
      while (!events_.empty() && events_.top().time <= now_) {
        const int task = events_.top().task;
        events_.pop();
        finish(task);
      }
      start_all();
    }
    return std::move(result_);
  }

 private:
  struct Task {
    int image = 0;
    int index = 0;  // in the layout
    bool message = false;
    int node = 0;  // that computes or sends
    int to = 0;
    double amount = 0;  // us or bytes
    std::int64_t key = 0;
    int missing = 0;
    double start_us = 0;
  };
  struct Event {
    double time = 0;
    int task = 0;
    bool operator<(const Event& o) const { return time != o.time ? time > o.time : task > o.task; }
  };
  using Entry = std::pair<std::int64_t, int>;  // key, task
  using Queue = std::priority_queue<Entry, std::vector<Entry>, std::greater<>>;

  void add_tasks();
  void finish(int id);
  void make_ready(int id);
  void start_all();

  const Cluster& cluster_;
  const Plan& plan_;
  const std::vector<Layout>& layouts_;
  const SimulateOptions& options_;
  std::vector<Task> tasks_;
  std::vector<int> first_next_, next_;  // successors of a task, as one array
  std::vector<Queue> ready_;            // by node
  std::vector<std::vector<Entry>> outbox_;
  std::vector<char> computing_, sending_, receiving_;
  std::priority_queue<Event> events_;
  double now_ = 0;
  Schedule result_;
};

void Simulator::add_tasks() {
  std::vector<int> first_of_image;
  int total = 0;
  for (int program : plan_.images) {
    first_of_image.push_back(total);
    total += layouts_[at(program)].tasks();
  }
  tasks_.resize(at(total));
  first_next_.assign(at(total) + 1, 0);
  result_.image_end_us.assign(plan_.images.size(), options_.start_us);
  for (std::size_t image = 0; image < plan_.images.size(); ++image) {
    const Program& program = plan_.programs[at(plan_.images[image])];
    const Layout& layout = layouts_[at(plan_.images[image])];
    const int base = first_of_image[image], pieces = static_cast<int>(layout.pieces.size());
    for (int i = 0; i < layout.tasks(); ++i) {
      Task& t = tasks_[at(base + i)];
      t.image = static_cast<int>(image);
      t.index = i;
      t.message = i >= pieces;
      std::int64_t rank = 0;
      if (t.message) {
        const Message& m = layout.messages[at(i - pieces)];
        t.node = program.participants[at(m.from)];
        t.to = program.participants[at(m.to)];
        t.amount = m.size_bytes;
        rank = std::int64_t{m.block + 1} * 64 + m.part;
      } else {
        const Piece& p = layout.pieces[at(i)];
        t.node = program.participants[at(p.participant)];
        t.amount = p.time_us;
        rank = std::int64_t{p.block + 1} * 64 + p.order;
        if (program.boundary_first && !p.boundary) rank += std::int64_t{1} << 24;
      }
      t.key = (static_cast<std::int64_t>(image) << 32) + rank;
      t.missing = static_cast<int>(layout.waits[at(i)].size());
      for (int w : layout.waits[at(i)]) ++first_next_[at(base + w) + 1];
    }
  }
  for (std::size_t i = 1; i < first_next_.size(); ++i) first_next_[i] += first_next_[i - 1];
  next_.resize(at(first_next_.back()));
  std::vector<int> fill(first_next_.begin(), first_next_.end() - 1);
  for (std::size_t image = 0; image < plan_.images.size(); ++image) {
    const Layout& layout = layouts_[at(plan_.images[image])];
    for (int i = 0; i < layout.tasks(); ++i)
      for (int w : layout.waits[at(i)])
        next_[at(fill[at(first_of_image[image] + w)]++)] = first_of_image[image] + i;
  }
  for (int i = 0; i < total; ++i)
    if (tasks_[at(i)].missing == 0) make_ready(i);
}

void Simulator::make_ready(int id) {
  const Task& t = tasks_[at(id)];
  if (!t.message) {
    ready_[at(t.node)].push({t.key, id});
    return;
  }
  auto& box = outbox_[at(t.node)];
  box.insert(std::upper_bound(box.begin(), box.end(), Entry{t.key, id}), {t.key, id});
}

void Simulator::finish(int id) {
  if (id < 0) {  // work from before
    computing_[at(-1 - id)] = 0;
    return;
  }
  const Task& t = tasks_[at(id)];
  if (t.message) {
    sending_[at(t.node)] = 0;
    receiving_[at(t.to)] = 0;
    result_.sent_bytes[at(t.node)] += t.amount;
  } else {
    computing_[at(t.node)] = 0;
    result_.busy_us[at(t.node)] += t.amount;
  }
  auto& end = result_.image_end_us[at(t.image)];
  end = std::max(end, now_);
  result_.makespan_us = std::max(result_.makespan_us, now_ - options_.start_us);
  if (options_.keep_spans) result_.spans.push_back({t.image, t.index, t.start_us, now_});
  for (int i = first_next_[at(id)]; i < first_next_[at(id) + 1]; ++i)
    if (--tasks_[at(next_[at(i)])].missing == 0) make_ready(next_[at(i)]);
}

void Simulator::start_all() {
  for (std::size_t n = 0; n < ready_.size(); ++n) {
    if (!computing_[n] && !ready_[n].empty()) {
      const int id = ready_[n].top().second;
      ready_[n].pop();
      computing_[n] = 1;
      tasks_[at(id)].start_us = now_;
      events_.push({now_ + tasks_[at(id)].amount, id});
    }
    auto& box = outbox_[n];
    for (std::size_t i = 0; i < box.size() && !sending_[n]; ++i) {
      const int id = box[i].second;
      Task& t = tasks_[at(id)];
      if (receiving_[at(t.to)]) continue;
      sending_[n] = receiving_[at(t.to)] = 1;
      t.start_us = now_;
      const profile::Link& link = cluster_.link(t.node, t.to);
      static const RateTrace kConstant;
      const auto which = at(t.node) * cluster_.nodes.size() + at(t.to);
      const RateTrace& rate =
          options_.rates && which < options_.rates->size() ? (*options_.rates)[which] : kConstant;
      events_.push({rate.end_us(now_ + link.delay_us, t.amount, link.rate_bytes_per_s), id});
      box.erase(box.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

}  // namespace

Schedule simulate(const Cluster& cluster, const Plan& plan, const std::vector<Layout>& layouts,
                  const SimulateOptions& options) {
  return Simulator(cluster, plan, layouts, options).run();
}

}  // namespace outboard::split
