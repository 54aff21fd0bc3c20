// SPDX-License-Identifier: Apache-2.0
// `outboard manage place`: a list of applications onto devices.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/manage_fleet.h"
#include "cli/manage_verbs.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "manage/place/explain.h"
#include "manage/place/pack.h"
#include "profile/json/cluster.h"

namespace outboard::cli {
namespace {

using nlohmann::json;

struct Arguments {
  FleetArguments fleet;
  std::string write;
};

// The decisions, one an application that had no place.
std::vector<manage::Decision> place_all(PlacingFleet& f, const Arguments& arguments,
                                        ProgressLine& progress) {
  std::vector<manage::Decision> decisions;
  std::vector<manage::AppId> apps;
  for (manage::AppId id : f.fleet.applications()) {
    if (!f.fleet.placed(id)) apps.push_back(id);
  }
  manage::PackOptions options;
  options.placer = arguments.fleet.placer;
  options.progress = [&](std::size_t done, std::size_t all) {
    progress.show(
        fmt::format("placing {} applications: step {} of {}", apps.size(), done + 1, all));
  };
  manage::pack(f.fleet, f.judge, apps, options);
  (void)f.placer.reserve_all();  // plans of what pack() left: it kept them possible
  for (manage::AppId id : apps) {
    if (f.fleet.placed(id)) {
      manage::Decision d;
      d.application = f.fleet.application(id).name;
      d.placed = true;
      for (const auto& p : f.fleet.where(id)) {
        d.where.push_back({f.fleet.device(p.device).name, p.share});
        for (auto& s : f.placer.slacks(p.device)) {
          if (s.application == d.application) d.slacks.push_back(std::move(s));
        }
      }
      decisions.push_back(std::move(d));
      continue;
    }
    progress.show(fmt::format("why {} has no place", f.fleet.application(id).name));
    manage::Decision d = f.placer.admit(id);
    if (!d.placed) d.advice = manage::advise(f.placer, id, d);
    decisions.push_back(std::move(d));
  }
  return decisions;
}

json plans_json(PlacingFleet& f) {
  json plans = json::array();
  for (manage::DeviceId d = 0; d < f.fleet.devices(); ++d) {
    for (const auto& b : f.placer.plan(d)) {
      plans.push_back({{"lost", f.fleet.device(d).name},
                       {"application", f.fleet.application(b.app).name},
                       {"to", f.fleet.device(b.to.device).name}});
    }
  }
  return plans;
}

void print_devices(PlacingFleet& f) {
  for (manage::DeviceId d = 0; d < f.fleet.devices(); ++d) {
    const manage::Load load = f.fleet.load(d);
    std::printf("%s (%s): %s\n", f.fleet.device(d).name.c_str(), f.fleet.device(d).kind.c_str(),
                load.parts.empty()
                    ? "idle"
                    : fmt::format("utilisation {:.2f}, memory {:.0f} of {:.0f} MB",
                                  manage::utilisation(load),
                                  static_cast<double>(manage::memory_bytes(load)) * 1e-6,
                                  static_cast<double>(f.fleet.device(d).memory_bytes) * 1e-6)
                          .c_str());
    for (const auto& s : f.placer.slacks(d)) {
      std::printf("  %-24s p%g %8.1f ms   limit %8.1f ms   slack %+8.1f ms   late %.2f %%\n",
                  s.application.c_str(), s.percentile, s.predicted_ms, s.limit_ms, s.slack_ms,
                  100 * s.late);
    }
    for (const auto& b : f.placer.plan(d)) {
      std::printf("  if lost: %s goes to %s\n", f.fleet.application(b.app).name.c_str(),
                  f.fleet.device(b.to.device).name.c_str());
    }
  }
}

Result<void> run(Arguments& arguments) {
  OB_TRY(const auto f, open_fleet(arguments.fleet));
  OB_CHECK_OK(f->reserve());
  std::vector<manage::Decision> decisions;
  {
    ProgressLine progress;
    decisions = place_all(*f, arguments, progress);
  }
  const auto cluster = profile::as_json(f->fleet.cluster());
  if (!arguments.write.empty()) {
    std::ofstream file(arguments.write, std::ios::trunc);
    file << cluster.dump(2) << "\n";
    file.close();
    if (!file) {
      return error(ErrorKind::kNotFound, "file ({}) cannot be written", arguments.write);
    }
  }
  std::size_t placed = 0;
  for (const auto& d : decisions) placed += d.placed ? 1 : 0;
  if (arguments.fleet.json) {
    json all = json::array(), slacks = json::array();
    for (const auto& d : decisions) all.push_back(as_json(d));
    for (manage::DeviceId d = 0; d < f->fleet.devices(); ++d) {
      for (const auto& s : f->placer.slacks(d)) slacks.push_back(as_json(s));
    }
    std::puts(json{{"placed", placed},
                   {"asked", decisions.size()},
                   {"decisions", all},
                   {"slacks", slacks},
                   {"plans", plans_json(*f)}}
                  .dump(2)
                  .c_str());
    return {};
  }
  print_devices(*f);
  std::printf("%zu of %zu applications placed\n", placed, decisions.size());
  for (const auto& d : decisions) {
    if (!d.placed) std::printf("\n%s\n", manage::sentences(d).c_str());
  }
  return {};
}

}  // namespace

void add_manage_place(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand("place",
                                     "Place the applications of a cluster file that have no "
                                     "device, so that every limit holds, and "
                                     "say what cannot be placed, why, and what would do");
  auto arguments = std::make_shared<Arguments>();
  add_fleet_options(*verb, arguments->fleet);
  verb->add_option("--write", arguments->write,
                   "Write the cluster with every application's device into this file");
  verb->callback([arguments, &exit_code] {
    const auto done = run(*arguments);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
