// SPDX-License-Identifier: Apache-2.0
#include "manage/place/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace outboard::manage {
namespace {

int count_more(Fleet fleet, Judge& judge, const profile::Application& like,
               const CapacityOptions& options, Obstacle* reason) {
  Placer placer(fleet, judge, options.placer);
  if (auto obstacle = placer.reserve_all()) {
    if (reason) *reason = *std::move(obstacle);
    return 0;
  }
  for (int n = 0; n < options.most; ++n) {
    profile::Application copy = like;
    copy.name = fmt::format("{}+{:04}", like.name, n + 1);
    copy.pinned.clear();
    const auto id = fleet.add(std::move(copy));
    if (!id) return n;  // a name that is taken: an application is called like a copy of another
    const Decision decision = placer.admit(*id);
    if (decision.placed) continue;
    if (reason && !decision.obstacles.empty()) *reason = decision.obstacles.front();
    return n;
  }
  return options.most;
}

bool alike(const profile::Device& a, const profile::Device& b) {
  return a.kind == b.kind && a.discipline == b.discipline && a.servers == b.servers &&
         a.memory_bytes == b.memory_bytes && a.may_batch == b.may_batch && a.network == b.network;
}

}  // namespace

Capacity capacity(const Fleet& fleet, Judge& judge, const profile::Application& like,
                  const CapacityOptions& options) {
  Capacity result;
  if (options.progress) options.progress("as it is");
  result.more = count_more(fleet, judge, like, options, &result.reason);
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    const profile::Device& device = fleet.device(d);
    const bool seen =
        std::any_of(result.additions.begin(), result.additions.end(),
                    [&](const Capacity::Addition& a) { return alike(a.device, device); });
    if (seen) continue;
    if (options.progress) options.progress("with one more like " + device.name);
    Fleet larger = fleet;
    profile::Device extra = device;
    extra.name += "+1";
    larger.add_device(std::move(extra));
    result.additions.push_back(
        {device, count_more(std::move(larger), judge, like, options, nullptr)});
  }
  std::sort(result.additions.begin(), result.additions.end(), [](const auto& a, const auto& b) {
    return std::tie(b.more, a.device.name) < std::tie(a.more, b.device.name);
  });
  return result;
}

}  // namespace outboard::manage
