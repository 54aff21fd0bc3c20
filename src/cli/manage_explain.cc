// SPDX-License-Identifier: Apache-2.0
// `outboard manage explain` and `capacity`: why one application is where it is or nowhere, and how
// many more of it fit.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/manage_fleet.h"
#include "cli/manage_verbs.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "manage/place/capacity.h"
#include "manage/place/explain.h"

namespace outboard::cli {
namespace {

using nlohmann::json;

Result<manage::AppId> find(const manage::Fleet& fleet, const std::string& name) {
  if (const auto id = fleet.find(name)) return *id;
  return error(ErrorKind::kNotFound, "application ({}) is not among the applications", name);
}

// What every single device would say, whether or not another one is chosen.
struct Alternative {
  std::string device;
  bool fits = false;
  std::string sentence;
};

std::vector<Alternative> alternatives(PlacingFleet& f, manage::AppId app) {
  std::vector<Alternative> all;
  std::vector<manage::Obstacle> excluded;
  for (const auto& c : f.placer.candidates(app, 1, &excluded)) {
    const auto fit = f.placer.fit(app, 1, c.device);
    const std::string& device = f.fleet.device(c.device).name;
    const std::string& name = f.fleet.application(app).name;
    if (!fit.finding.holds()) {
      all.push_back(
          {device, false, manage::sentence(f.placer.obstacle_of(fit, app, c.device), name)});
      continue;
    }
    std::string tightest;
    double least = 1e300;
    for (std::size_t i = 0; i < fit.load.parts.size(); ++i) {
      const auto& part = fit.load.parts[i];
      const double limit_ms = part.application->limit.latency_ms;
      const double slack_ms = limit_ms - fit.finding.verdict.parts[i].percentile_us * 1e-3;
      if (limit_ms <= 0 || slack_ms >= least) continue;
      least = slack_ms;
      tightest = part.application->name;
    }
    all.push_back({device, true,
                   tightest.empty() ? fmt::format("on {} it fits", device)
                                    : fmt::format("on {} it fits; the least slack is that of {}, "
                                                  "{:.1f} ms",
                                                  device, tightest, least)});
  }
  for (const auto& o : excluded) {
    all.push_back({o.device, false, manage::sentence(o, f.fleet.application(app).name)});
  }
  return all;
}

Result<void> explain(FleetArguments& arguments, const std::string& name) {
  OB_TRY(const auto f, open_fleet(arguments));
  OB_TRY(const manage::AppId app, find(f->fleet, name));
  std::string now;
  for (const auto& p : f->fleet.where(app)) {
    now += (now.empty() ? "" : ", ") + f->fleet.device(p.device).name;
  }
  // Taken off, so that it is decided as a newcomer among all others.
  while (f->fleet.placed(app)) f->fleet.take(app, f->fleet.where(app).front().device);
  OB_CHECK_OK(f->reserve());
  const auto others = alternatives(*f, app);
  manage::Decision decision = f->placer.decide(app);
  if (!decision.placed) decision.advice = manage::advise(f->placer, app, decision);
  if (arguments.json) {
    json result = as_json(decision);
    result["now"] = now;
    for (const auto& a : others) {
      result["alternatives"].push_back(
          {{"device", a.device}, {"fits", a.fits}, {"sentence", a.sentence}});
    }
    std::puts(result.dump(2).c_str());
    return {};
  }
  if (!now.empty()) std::printf("In the file it is on %s. As a newcomer:\n", now.c_str());
  std::printf("%s\nDevice by device:\n", manage::sentences(decision).c_str());
  for (const auto& a : others) std::printf("  %s\n", a.sentence.c_str());
  return {};
}

Result<void> count(FleetArguments& arguments, const std::string& name, int most) {
  OB_TRY(const auto f, open_fleet(arguments));
  OB_TRY(const manage::AppId app, find(f->fleet, name));
  OB_CHECK_OK(f->reserve());
  manage::CapacityOptions options;
  options.placer = arguments.placer;
  options.most = most;
  manage::Capacity found;
  {
    ProgressLine progress;
    options.progress = [&](std::string_view what) {
      progress.show(fmt::format("counting {}", what));
    };
    found = manage::capacity(f->fleet, f->judge, f->fleet.application(app), options);
  }
  const std::string reason = found.reason.breach == manage::Breach::kNone
                                 ? "counting stopped there"
                                 : manage::sentence(found.reason, "the next one");
  if (arguments.json) {
    json additions = json::array();
    for (const auto& a : found.additions) {
      additions.push_back({{"like", a.device.name}, {"kind", a.device.kind}, {"more", a.more}});
    }
    std::puts(json{
        {"application", name}, {"more", found.more}, {"reason", reason}, {"additions", additions}}
                  .dump(2)
                  .c_str());
    return {};
  }
  std::printf("%d more like %s fit; then %s.\n", found.more, name.c_str(), reason.c_str());
  for (const auto& a : found.additions) {
    std::printf("With one more device of kind %s (like %s): %d, so %d of them.\n",
                a.device.kind.c_str(), a.device.name.c_str(), a.more, a.more - found.more);
  }
  return {};
}

}  // namespace

void add_manage_explain(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand(
      "explain",
      "Explain one decision: why an application goes where it goes, or nowhere, and what "
      "every device would mean for it");
  auto arguments = std::make_shared<FleetArguments>();
  auto name = std::make_shared<std::string>();
  add_fleet_options(*verb, *arguments);
  verb->add_option("--application", *name, "Name of the application")->required();
  verb->callback([arguments, name, &exit_code] {
    const auto done = explain(*arguments, *name);
    if (!done) exit_code = report(done.error());
  });
}

void add_manage_capacity(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand(
      "capacity",
      "Count how many more applications like one fit, and with which device added most would");
  auto arguments = std::make_shared<FleetArguments>();
  auto name = std::make_shared<std::string>();
  auto most = std::make_shared<int>(1000);
  add_fleet_options(*verb, *arguments);
  verb->add_option("--like", *name, "Name of the application that is counted")->required();
  verb->add_option("--most", *most, "Stop counting there")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->callback([arguments, name, most, &exit_code] {
    const auto done = count(*arguments, *name, *most);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
