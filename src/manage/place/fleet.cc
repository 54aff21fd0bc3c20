// SPDX-License-Identifier: Apache-2.0
#include "manage/place/fleet.h"

#include <algorithm>

#include "base/check.h"

namespace outboard::manage {

using profile::Discipline;

Result<Fleet> Fleet::of(profile::Cluster cluster) {
  if (cluster.devices.empty()) {
    return error(ErrorKind::kInvalid, "devices is empty; a placement needs at least one device");
  }
  auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(cluster.devices.begin(), cluster.devices.end(), by_name);
  std::sort(cluster.applications.begin(), cluster.applications.end(), by_name);

  auto catalogue = std::make_shared<Catalogue>();
  catalogue->profiles = std::move(cluster.models);
  for (const auto& m : catalogue->profiles) {
    catalogue->models.emplace(m.model, 0);
    catalogue->kinds.emplace(m.device_kind, 0);
  }
  for (const auto& d : cluster.devices) catalogue->kinds.emplace(d.kind, 0);
  int next = 0;
  for (auto& [name, number] : catalogue->models) number = next++;
  next = 0;
  for (auto& [name, number] : catalogue->kinds) number = next++;
  catalogue->table.assign(catalogue->models.size(), std::vector<const profile::ModelProfile*>(
                                                        catalogue->kinds.size(), nullptr));
  for (const auto& m : catalogue->profiles) {
    catalogue
        ->table[index(catalogue->models.at(m.model))][index(catalogue->kinds.at(m.device_kind))] =
        &m;
  }

  Fleet fleet;
  fleet.catalogue_ = std::move(catalogue);
  for (auto& d : cluster.devices) fleet.add_device(std::move(d));
  for (auto& a : cluster.applications) {
    std::vector<profile::Replica> parts = a.replicas;
    if (!a.device.empty()) parts = {{a.device, 1.0}};
    OB_TRY(const AppId id, fleet.add(std::move(a)));
    for (const auto& part : parts) {
      const auto device = fleet.find_device(part.device);
      if (!device || !fleet.profile(id, *device)) {
        return error(ErrorKind::kInvalid, "application ({}) is on device ({}), which cannot run it",
                     fleet.application(id).name, part.device);
      }
      fleet.put(id, {*device, part.share});
    }
  }
  return fleet;
}

std::optional<DeviceId> Fleet::find_device(std::string_view name) const {
  const auto found = std::find_if(devices_.begin(), devices_.end(),
                                  [&](const DeviceState& d) { return d.device.name == name; });
  if (found == devices_.end()) return std::nullopt;
  return static_cast<DeviceId>(found - devices_.begin());
}

DeviceId Fleet::device_named(std::string_view name) const {
  const auto id = find_device(name);
  OB_CHECK(id.has_value());
  return id.value_or(0);
}

AppId Fleet::named(std::string_view name) const {
  const auto id = find(name);
  OB_CHECK(id.has_value());
  return id.value_or(0);
}

void Fleet::set_lost(DeviceId id, bool lost) {
  devices_[index(id)].lost = lost;
  devices_[index(id)].version = ++versions_;
}

std::vector<profile::Device> Fleet::settings(DeviceId id) const {
  const profile::Device& now = device(id);
  std::vector<profile::Device> settings{now};
  if (!now.may_batch) return settings;
  // One request at a time, or batches that wait for company: the waits are a ladder of about 2.5
  // to the step, which is finer than what a wait changes.
  profile::Device other = now;
  other.discipline = Discipline::kFcfs;
  other.batch_wait_us = 0;
  settings.push_back(other);
  other.discipline = Discipline::kBatching;
  for (double wait_us : {0.0, 2000.0, 5000.0, 10000.0, 25000.0}) {
    other.batch_wait_us = wait_us;
    settings.push_back(other);
  }
  settings.erase(std::remove(settings.begin() + 1, settings.end(), now), settings.end());
  return settings;
}

void Fleet::choose_setting(DeviceId id, const profile::Device& setting) {
  DeviceState& state = devices_[index(id)];
  if (state.device.discipline == setting.discipline &&
      state.device.batch_wait_us == setting.batch_wait_us) {
    return;
  }
  state.device.discipline = setting.discipline;
  state.device.batch_wait_us = setting.batch_wait_us;
  state.version = ++versions_;
}

DeviceId Fleet::add_device(profile::Device device) {
  const auto kind = catalogue_->kinds.find(device.kind);
  devices_.push_back({std::move(device),
                      {},
                      kind == catalogue_->kinds.end() ? -1 : kind->second,
                      false,
                      ++versions_});
  return devices() - 1;
}

Result<AppId> Fleet::add(profile::Application application) {
  const auto model = catalogue_->models.find(application.model);
  if (model == catalogue_->models.end()) {
    return error(ErrorKind::kInvalid, "application ({}) needs model ({}), which has no profile",
                 application.name, application.model);
  }
  if (names_.contains(application.name)) {
    return error(ErrorKind::kInvalid, "application ({}) is there already", application.name);
  }
  AppId id = static_cast<AppId>(apps_.size());
  if (free_.empty()) {
    apps_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  names_.emplace(application.name, id);
  const bool share = application.share_model;
  application.device.clear();
  application.replicas.clear();
  std::sort(application.pinned.begin(), application.pinned.end());
  apps_[index(id)] = {std::make_shared<const profile::Application>(std::move(application)),
                      {},
                      model->second,
                      share ? model->second : static_cast<int>(catalogue_->models.size()) + id};
  return id;
}

void Fleet::remove(AppId id) {
  while (placed(id)) take(id, where(id).front().device);
  names_.erase(application(id).name);
  apps_[index(id)] = {};
  free_.push_back(id);
}

std::optional<AppId> Fleet::find(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<AppId> Fleet::applications() const {
  std::vector<AppId> ids;
  ids.reserve(names_.size());
  for (const auto& [name, id] : names_) ids.push_back(id);
  return ids;
}

const profile::ModelProfile* Fleet::profile(AppId app, DeviceId device) const {
  const int kind = devices_[index(device)].kind;
  if (kind < 0) return nullptr;
  return catalogue_->table[index(apps_[index(app)].model)][index(kind)];
}

void Fleet::put(AppId app, Placed where) {
  DeviceState& device = devices_[index(where.device)];
  AppState& state = apps_[index(app)];
  auto part = std::find_if(state.where.begin(), state.where.end(),
                           [&](const Placed& p) { return p.device == where.device; });
  if (part != state.where.end()) {
    part->share = std::min(1.0, part->share + where.share);
  } else {
    state.where.insert(
        std::lower_bound(state.where.begin(), state.where.end(), where,
                         [](const Placed& a, const Placed& b) { return a.device < b.device; }),
        where);
    device.apps.insert(std::lower_bound(device.apps.begin(), device.apps.end(), app,
                                        [&](AppId a, AppId b) {
                                          return application(a).name < application(b).name;
                                        }),
                       app);
  }
  device.version = ++versions_;
}

void Fleet::take(AppId app, DeviceId device) {
  std::erase_if(apps_[index(app)].where, [&](const Placed& p) { return p.device == device; });
  std::erase(devices_[index(device)].apps, app);
  devices_[index(device)].version = ++versions_;
}

void Fleet::roll_back(Fleet before) {
  before.versions_ = versions_;
  *this = std::move(before);
}

LoadPart Fleet::part(AppId app, DeviceId device, double share) const {
  return {apps_[index(app)].application.get(), profile(app, device), share, apps_[index(app)].copy};
}

Load Fleet::load(DeviceId id) const {
  const DeviceState& state = devices_[index(id)];
  Load load{&state.device, {}};
  load.parts.reserve(state.apps.size() + 1);
  for (AppId app : state.apps) {
    for (const Placed& placed : where(app)) {
      if (placed.device == id) load.parts.push_back(part(app, id, placed.share));
    }
  }
  return load;
}

profile::Cluster Fleet::cluster() const {
  profile::Cluster cluster;
  for (const DeviceState& d : devices_) cluster.devices.push_back(d.device);
  cluster.models = catalogue_->profiles;
  for (const auto& [name, id] : names_) {
    profile::Application app = application(id);
    const auto parts = where(id);
    if (parts.size() == 1) {
      app.device = device(parts[0].device).name;
    } else {
      for (const Placed& p : parts) app.replicas.push_back({device(p.device).name, p.share});
    }
    cluster.applications.push_back(std::move(app));
  }
  return cluster;
}

std::size_t Fleet::memory_bytes() const {
  std::size_t bytes = sizeof(*this) + devices_.capacity() * sizeof(DeviceState) +
                      apps_.capacity() * sizeof(AppState) + free_.capacity() * sizeof(AppId);
  for (const DeviceState& d : devices_) bytes += d.apps.capacity() * sizeof(AppId);
  constexpr std::size_t kNode = 80;  // of the map of names
  for (const AppState& a : apps_) {
    bytes += a.where.capacity() * sizeof(Placed) + kNode + sizeof(profile::Application);
  }
  return bytes;
}

}  // namespace outboard::manage
