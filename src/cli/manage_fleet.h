// SPDX-License-Identifier: Apache-2.0
// What the placing verbs of `outboard manage` share: options, a fleet from a file, JSON.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "manage/place/decision.h"
#include "manage/place/placer.h"
#include "manage/place/queue_judge.h"

namespace CLI {
class App;
}

namespace outboard::cli {

struct FleetArguments {
  std::string cluster;
  manage::PlacerOptions placer;
  double margin_percent = 10, memory_percent = 100;
  std::size_t requests = 100000;
  bool json = false;
};
void add_fleet_options(CLI::App& verb, FleetArguments& arguments);

// A fleet with its judge and placer; plans are made when --survive asks for them.
struct PlacingFleet {
  manage::Fleet fleet;
  manage::QueueJudge queue;
  manage::RememberingJudge judge;
  manage::Placer placer;

  PlacingFleet(manage::Fleet from, const FleetArguments& arguments);
  // kInvalid where what is placed already does not survive the loss of a device.
  Result<void> reserve();
};
Result<std::unique_ptr<PlacingFleet>> open_fleet(FleetArguments& arguments);

nlohmann::json as_json(const manage::Slack& slack);
nlohmann::json as_json(const manage::Obstacle& obstacle, const std::string& newcomer);
nlohmann::json as_json(const manage::Decision& decision);

}  // namespace outboard::cli
