// SPDX-License-Identifier: Apache-2.0
// Devices, what is known of models on them, and the applications that share them. Plain values.
#pragma once

#include <string_view>
#include <vector>

#include "profile/application.h"
#include "profile/device.h"
#include "profile/model.h"

namespace outboard::profile {

struct Cluster {
  std::vector<Device> devices;
  std::vector<ModelProfile> models;
  std::vector<Application> applications;

  // Null when there is none. Borrowed from this cluster.
  const Device* device(std::string_view name) const;
  const ModelProfile* model(std::string_view name, std::string_view device_kind) const;
};

}  // namespace outboard::profile
