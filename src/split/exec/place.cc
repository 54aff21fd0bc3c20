// SPDX-License-Identifier: Apache-2.0
#include "split/exec/place.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

constexpr std::uint64_t kAlignment = 64;

// Tasks, a bit each.
using Tasks = std::vector<std::uint64_t>;

void add(Tasks& tasks, int task) { tasks[at(task) / 64] |= std::uint64_t{1} << (task % 64); }

bool within(const Tasks& some, const Tasks& all) {
  for (std::size_t i = 0; i < some.size(); ++i)
    if ((some[i] & ~all[i]) != 0) return false;
  return true;
}

// By task: what is over, on every node, before it begins. A message that has come was sent.
std::vector<Tasks> before_each(const Layout& layout) {
  const int n = layout.tasks();
  const std::size_t words = (at(n) + 63) / 64;
  std::vector<Tasks> before(at(n), Tasks(words, 0));
  std::vector<std::vector<int>> next(at(n));
  std::vector<int> missing(at(n), 0), ready;
  for (int t = 0; t < n; ++t) {
    missing[at(t)] = static_cast<int>(layout.waits[at(t)].size());
    for (int w : layout.waits[at(t)]) next[at(w)].push_back(t);
    if (missing[at(t)] == 0) ready.push_back(t);
  }
  while (!ready.empty()) {
    const int t = ready.back();
    ready.pop_back();
    for (int follower : next[at(t)]) {
      Tasks& tasks = before[at(follower)];
      for (std::size_t i = 0; i < words; ++i) tasks[i] |= before[at(t)][i];
      add(tasks, t);
      if (--missing[at(follower)] == 0) ready.push_back(follower);
    }
  }
  return before;
}

struct Use {
  Tasks touched;         // by these tasks
  Tasks before_written;  // over before any task writes into it
  bool from_begin = false, to_end = false;
};

class Uses {
 public:
  Uses(const Steps& steps, const Layout& layout)
      : words_((at(layout.tasks()) + 63) / 64), before_(before_each(layout)) {
    uses_.assign(steps.buffers.size(),
                 {Tasks(words_, 0), Tasks(words_, std::numeric_limits<std::uint64_t>::max())});
    for (const Step& s : steps.steps) {
      for (int b : s.inputs) add(uses_[at(b)].touched, s.task);
      for (int b : s.outputs) written(b, s.task);
      for (const Copy& c : s.copies) {
        add(uses_[at(c.from)].touched, s.task);
        written(c.to, s.task);
      }
    }
    for (const Copy& c : steps.input_copies) uses_[at(c.to)].from_begin = true;
    // Filled while the first steps run already, and maybe read by none of them.
    for (int b : steps.model_inputs) uses_[at(b)].from_begin = uses_[at(b)].to_end = true;
    for (int b : steps.model_outputs) uses_[at(b)].to_end = true;
    for (Use& u : uses_)
      if (std::all_of(u.touched.begin(), u.touched.end(), [](auto w) { return w == 0; }))
        u.to_end = true;
  }

  bool may_share(int a, int b) const {
    return is_before(uses_[at(a)], uses_[at(b)]) || is_before(uses_[at(b)], uses_[at(a)]);
  }

 private:
  static bool is_before(const Use& a, const Use& b) {
    return !a.to_end && !b.from_begin && within(a.touched, b.before_written);
  }
  void written(int buffer, int task) {
    Use& u = uses_[at(buffer)];
    add(u.touched, task);
    for (std::size_t i = 0; i < words_; ++i) u.before_written[i] &= before_[at(task)][i];
  }

  const std::size_t words_;
  const std::vector<Tasks> before_;
  std::vector<Use> uses_;
};

}  // namespace

// The largest first, each at the lowest place that is free while it is used.
void place_buffers(Steps& steps, const Layout& layout) {
  const Uses uses(steps, layout);
  const auto room = [&](int b) {
    return (steps.buffers[at(b)].size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  std::vector<int> order(steps.buffers.size()), placed;
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return room(a) != room(b) ? room(a) > room(b) : a < b; });
  steps.frame_bytes = 0;
  for (int b : order) {  // `placed` is by offset
    std::uint64_t offset = 0;
    for (int other : placed) {
      if (uses.may_share(b, other)) continue;
      const std::uint64_t begin = steps.buffers[at(other)].offset;
      if (offset + room(b) <= begin) break;
      offset = std::max(offset, begin + room(other));
    }
    steps.buffers[at(b)].offset = offset;
    steps.frame_bytes = std::max(steps.frame_bytes, offset + room(b));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), b,
                                   [&](int x, int y) {
                                     return steps.buffers[at(x)].offset <
                                            steps.buffers[at(y)].offset;
                                   }),
                  b);
  }
}

}  // namespace outboard::split::exec
