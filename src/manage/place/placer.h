// SPDX-License-Identifier: Apache-2.0
// Admits applications to the devices of a fleet, so that every limit holds: the newcomer's own,
// that of every resident, and (survive = 1) all of them after the loss of any one device.
//
// Every device that is not excluded by facts (profile, pin, group, memory, utilisation) is a
// candidate, in an order that costs no model: least utilisation added, a copy of the model that is
// there already, fullest first. Bounds of the latency model drop most of those that cannot do; the
// first that passes the whole check takes the newcomer. At most `screened_most` candidates are
// screened and whole checks of cost `judged_most` made for one share of a newcomer: what finds no
// place by then is refused, so that a decision takes a bounded time.
// So the same fleet and newcomer give the same decision, and nothing is admitted on a guess.
//
// What is remembered between decisions (besides the judge's own memory): for every device, which
// newcomers its residents made impossible. More work never helps a resident (a request more delays
// others or leaves them), so a newcomer with the same model, rate or more, need not ask again until
// the device changes.
// Lifetime: borrows fleet and judge. Pure. Thread-safety: one thread at a time.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "manage/place/decision.h"
#include "manage/place/fleet.h"
#include "manage/place/judge.h"

namespace outboard::manage {

struct PlacerOptions {
  Promise promise;
  int survive = 0;    // 0 or 1: how many devices may be lost
  int moves = 0;      // most residents that may be moved to make room for one newcomer
  bool tight = true;  // fullest device first among equals; false: emptiest first
  // Of one share of a newcomer: candidates that are screened, and the cost of whole checks.
  std::size_t screened_most = 256;
  std::size_t judged_most = 48;
};

// Part of an application that moves when its device is lost.
struct Backup {
  AppId app = 0;
  Placed to;
};

class Placer {
 public:
  Placer(Fleet& fleet, Judge& judge, PlacerOptions options);

  // Places it when a place is found; `fleet` is changed only then. REQUIRES: not placed.
  Decision admit(AppId app);
  // What admit() would say; the fleet stays as it is.
  Decision decide(AppId app);
  void remove(AppId app);
  // Empties devices: moves all that is on one to others that are in use, as long as every limit
  // holds and no more than `most` moves are made.
  std::vector<Move> defragment(int most);
  // With survive = 1, plans for every device as the fleet stands; the obstacle when that fails.
  std::optional<Obstacle> reserve_all();
  // Where the parts of a device go when it is lost. Empty plans with survive = 0.
  std::span<const Backup> plan(DeviceId lost) const;

  std::vector<Slack> slacks(DeviceId device);
  // Every device's finding as it stands: does what is there hold?
  Finding finding(DeviceId device);

  Fleet& fleet() { return fleet_; }
  Judge& judge() { return judge_; }
  const PlacerOptions& options() const { return options_; }
  std::size_t memory_bytes() const;  // its own, an estimate

  // Candidates for a share of `app`, best first; the others' obstacles go to `excluded`.
  struct Candidate {
    DeviceId device = 0;
    double added = 0;  // utilisation
    bool copy = false;
    double after = 0;
  };
  std::vector<Candidate> candidates(AppId app, double share, std::vector<Obstacle>* excluded);
  // Whole check of `share` of `app` on `device`, under the first of its settings that holds.
  struct Fit {
    Finding finding;
    profile::Device setting;
    Load load;  // with the newcomer; `load.device` is null: read `setting`
  };
  Fit fit(AppId app, double share, DeviceId device);
  Obstacle obstacle_of(const Fit& fit, AppId newcomer, DeviceId device);

 private:
  struct Refused {  // by a resident's limit or by memory: dominates the same with more work
    std::uint64_t version = 0;
    int copy = 0;
    const profile::ModelProfile* profile = nullptr;
    double rate_per_s = 0;
    Obstacle obstacle;
  };

  // placer.cc
  static std::optional<Obstacle> forbidden(const Fleet& fleet, AppId app, DeviceId device);
  // admit.cc
  bool place_share(AppId app, double share, std::span<const DeviceId> not_here, Decision& decision);
  bool place_split(AppId app, Decision& decision);
  bool place_uneven(AppId app, Decision& decision);
  void describe(Decision& decision, AppId app);
  // move.cc
  bool place_moving(AppId app, Decision& decision);
  bool move_off(AppId app, DeviceId device, std::span<const AppId> off, Decision& decision,
                std::size_t& budget);
  std::optional<DeviceId> home_for(AppId app, double share, DeviceId not_here, bool used_only,
                                   std::size_t& budget);
  bool move(AppId app, DeviceId from, DeviceId to, std::vector<Move>& moves);
  // reserve.cc: puts it there and renews the plans; all as before, and an obstacle, when that fails
  std::optional<Obstacle> commit(AppId app, Placed where, const profile::Device& setting);
  std::optional<Obstacle> renew(DeviceId device);
  std::optional<Obstacle> replan(DeviceId lost);
  std::optional<DeviceId> backup_for(AppId app, double share, DeviceId lost,
                                     std::span<const Backup> plan);
  Load load_when_lost(DeviceId target, std::span<const Backup> plan) const;
  void forget_plans_of(AppId app, DeviceId device);
  std::optional<Obstacle> known(AppId app, double share, DeviceId device) const;
  void remember(AppId app, double share, DeviceId device, const Finding& finding,
                const Obstacle& obstacle);

  Fleet& fleet_;
  Judge& judge_;
  PlacerOptions options_;
  std::vector<std::vector<Backup>> plans_;
  std::vector<std::vector<Refused>> refused_;
};

}  // namespace outboard::manage
