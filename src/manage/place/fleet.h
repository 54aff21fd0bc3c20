// SPDX-License-Identifier: Apache-2.0
// The devices, what is on them, and what applications there are: the state that a placement
// changes.
//
// Devices are kept by name and every device's parts by application name, so that nothing depends on
// the order of a file. An application is known by a number that stays its own until it is removed.
// Lifetime: loads borrow from the fleet and are good until it changes. A Fleet may be copied (a
// what-if) and the copy shares the immutable profiles.
// Pure. Thread-safety: one thread at a time.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "manage/place/load.h"
#include "profile/cluster.h"

namespace outboard::manage {

using DeviceId = int;
using AppId = int;

struct Placed {
  DeviceId device = 0;
  double share = 1;
  bool operator==(const Placed&) const = default;
};

class Fleet {
 public:
  // `cluster` was checked as cluster_from_text does; an application that names a device (or
  // replicas) is on it. kInvalid when there is no device.
  static Result<Fleet> of(profile::Cluster cluster);

  int devices() const { return static_cast<int>(devices_.size()); }
  const profile::Device& device(DeviceId id) const { return devices_[index(id)].device; }
  std::optional<DeviceId> find_device(std::string_view name) const;
  DeviceId device_named(std::string_view name) const;  // REQUIRES: there is one
  // A lost device has no parts and takes none.
  bool lost(DeviceId id) const { return devices_[index(id)].lost; }
  void set_lost(DeviceId id, bool lost);
  // The settings that a placement may choose among (may_batch), the present one first.
  std::vector<profile::Device> settings(DeviceId id) const;
  // REQUIRES: one of settings(id). Only its discipline and its batch wait are taken.
  void choose_setting(DeviceId id, const profile::Device& setting);
  DeviceId add_device(profile::Device device);  // last, whatever its name; for a what-if

  // kInvalid: the name is taken or no model is called so.
  Result<AppId> add(profile::Application application);
  void remove(AppId id);  // takes it off its devices, too
  std::optional<AppId> find(std::string_view name) const;
  AppId named(std::string_view name) const;  // REQUIRES: there is one
  // Ascending by name.
  std::vector<AppId> applications() const;
  const profile::Application& application(AppId id) const { return *apps_[index(id)].application; }
  // Null: its model has no profile for the kind of the device.
  const profile::ModelProfile* profile(AppId app, DeviceId device) const;

  void put(AppId app, Placed where);
  void take(AppId app, DeviceId device);
  std::span<const Placed> where(AppId id) const { return apps_[index(id)].where; }
  bool placed(AppId id) const { return !where(id).empty(); }
  std::span<const AppId> on(DeviceId id) const { return devices_[index(id)].apps; }
  // Changes whenever the device's parts or setting do.
  std::uint64_t version(DeviceId id) const { return devices_[index(id)].version; }

  // Back to a copy that was made before; versions go on, so that none is ever used twice.
  void roll_back(Fleet before);

  Load load(DeviceId id) const;
  // REQUIRES: a profile.
  LoadPart part(AppId app, DeviceId device, double share) const;

  // As it is now: `device` and `replicas` say where every application is.
  profile::Cluster cluster() const;
  std::size_t memory_bytes() const;  // an estimate, profiles and traces left out

 private:
  struct DeviceState {
    profile::Device device;
    std::vector<AppId> apps;  // by name
    int kind = 0;
    bool lost = false;
    std::uint64_t version = 0;
  };
  struct AppState {
    std::shared_ptr<const profile::Application> application;  // null: the number is free
    std::vector<Placed> where;
    int model = 0;
    int copy = 0;
  };
  struct Catalogue {
    std::vector<profile::ModelProfile> profiles;
    std::map<std::string, int, std::less<>> models, kinds;
    std::vector<std::vector<const profile::ModelProfile*>> table;  // [model][kind]
  };

  static std::size_t index(int id) { return static_cast<std::size_t>(id); }

  std::shared_ptr<const Catalogue> catalogue_;
  std::vector<DeviceState> devices_;
  std::vector<AppState> apps_;
  std::vector<AppId> free_;
  std::map<std::string, AppId, std::less<>> names_;
  std::uint64_t versions_ = 0;
};

}  // namespace outboard::manage
