// SPDX-License-Identifier: Apache-2.0
#include "profile/cluster.h"

#include <algorithm>

namespace outboard::profile {

const Device* Cluster::device(std::string_view name) const {
  auto found =
      std::find_if(devices.begin(), devices.end(), [&](const Device& d) { return d.name == name; });
  return found == devices.end() ? nullptr : &*found;
}

const ModelProfile* Cluster::model(std::string_view name, std::string_view device_kind) const {
  auto found = std::find_if(models.begin(), models.end(), [&](const ModelProfile& m) {
    return m.model == name && m.device_kind == device_kind;
  });
  return found == models.end() ? nullptr : &*found;
}

}  // namespace outboard::profile
