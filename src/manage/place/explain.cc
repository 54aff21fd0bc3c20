// SPDX-License-Identifier: Apache-2.0
#include "manage/place/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace outboard::manage {
namespace {

constexpr int kBisections = 12;

// The newcomer with another rate or limit, on one device, as things are.
class Variant {
 public:
  Variant(Placer& placer, AppId app, DeviceId device)
      : placer_(placer),
        app_(placer.fleet().application(app)),
        load_(placer.fleet().load(device)),
        settings_(placer.fleet().settings(device)) {
    LoadPart part = placer.fleet().part(app, device, 1);
    part.application = &app_;
    add(load_, part);
  }

  // The first of the device's settings that holds, else the first.
  Finding finding(double rate_factor, double limit_ms) {
    // A trace keeps its shape when its clock runs faster.
    const profile::Application original = app_;
    app_.rate_per_s *= rate_factor;
    for (double& at : app_.arrivals_s) at /= rate_factor;
    app_.limit.latency_ms = limit_ms;
    Finding first;
    for (std::size_t i = 0; i < settings_.size(); ++i) {
      load_.device = &settings_[i];
      Finding found = check(load_, placer_.judge(), placer_.options().promise);
      const bool holds = found.holds();
      if (i == 0 || holds) first = std::move(found);
      if (holds) break;
    }
    app_ = original;
    return first;
  }

  // Percentile and error of the newcomer in a finding that has a verdict.
  double own_us(const Finding& finding) const {
    for (std::size_t i = 0; i < finding.verdict.parts.size(); ++i) {
      if (load_.parts[i].application != &app_) continue;
      return finding.verdict.parts[i].percentile_us + finding.verdict.parts[i].error_us;
    }
    return 0;
  }
  double limit_ms() const { return app_.limit.latency_ms; }

 private:
  Placer& placer_;
  profile::Application app_;
  Load load_;
  std::vector<profile::Device> settings_;
};

// The largest factor on the rate, below 1, that fits; 0: none above a thousandth.
double highest_factor(Variant& variant) {
  double fits = 0, fails = 1;
  for (int i = 0; i < kBisections; ++i) {
    const double middle = 0.5 * (fits + fails);
    (variant.finding(middle, variant.limit_ms()).holds() ? fits : fails) = middle;
  }
  return fits;
}

// The smallest limit with which it would be admitted; 0: another one's limit breaks, or memory.
double loosest_ms(Variant& variant, double margin) {
  if (variant.limit_ms() <= 0) return 0;
  const Finding without = variant.finding(1, 0);
  if (!without.holds()) return 0;
  // The percentile does not depend on the limit's value, except for EDF: so it is asked again.
  const double needed = std::ceil(variant.own_us(without) / (1 - margin) * 1e-2) * 0.1;
  return variant.finding(1, needed).holds() ? needed : 0;
}

// Would it be placed under the placer's own options, on this fleet, with this rate and limit?
bool would_place(Placer& placer, Fleet fleet, AppId app, double rate_factor, double limit_ms) {
  profile::Application changed = fleet.application(app);
  changed.rate_per_s *= rate_factor;
  for (double& at : changed.arrivals_s) at /= rate_factor;
  changed.limit.latency_ms = limit_ms;
  fleet.remove(app);
  const auto id = fleet.add(std::move(changed));
  Placer with(fleet, placer.judge(), placer.options());
  return id && !with.reserve_all() && with.admit(*id).placed;
}

std::string ms(double value) { return fmt::format("{:.1f} ms", value); }

std::string where_of(const Decision& d) {
  std::string text;
  for (const auto& r : d.where) {
    text += text.empty() ? "" : ", ";
    text += r.share < 1 ? fmt::format("{} ({:.0f} %)", r.device, 100 * r.share) : r.device;
  }
  return text;
}

std::string slack_sentence(const Slack& s) {
  if (s.limit_ms <= 0) {
    return fmt::format("{} on {}: p{:g} {}, no limit.", s.application, s.device, s.percentile,
                       ms(s.predicted_ms));
  }
  return fmt::format("{} on {}: p{:g} {}, {} {} its limit ({:g} ms).", s.application, s.device,
                     s.percentile, ms(s.predicted_ms), ms(std::abs(s.slack_ms)),
                     s.slack_ms < 0 ? "over" : "below", s.limit_ms);
}

std::string advice_sentences(const Advice& a) {
  std::string text;
  if (a.highest_rate_per_s > 0) {
    text += fmt::format("\n{:.3g} requests/s would fit, on {}.", a.highest_rate_per_s,
                        a.highest_rate_device);
  } else {
    text += "\nNo lower rate would fit on the devices that come nearest.";
  }
  if (a.loosest_limit_ms > 0) {
    text += fmt::format("\nA limit of {:.1f} ms would be kept, on {}.", a.loosest_limit_ms,
                        a.loosest_limit_device);
  }
  for (const std::string& kind : a.idle_kinds) {
    text += fmt::format("\nOne more device of kind {} would do.", kind);
  }
  if (!a.moves.empty()) {
    text += "\nIt would fit on " + a.moves_device + " if";
    for (std::size_t i = 0; i < a.moves.size(); ++i) {
      text += fmt::format("{} {} moved from {} to {}", i ? " and" : "", a.moves[i].application,
                          a.moves[i].from, a.moves[i].to);
    }
    text += ".";
  }
  return text;
}

}  // namespace

Advice advise(Placer& placer, AppId app, const Decision& refusal, std::size_t nearest) {
  Advice advice;
  Fleet& fleet = placer.fleet();
  const double margin = placer.options().promise.margin;
  // The other devices' plans are not in a look at one device.
  const bool reserved = placer.options().survive > 0;
  std::size_t looked = 0;
  for (const Obstacle& o : refusal.obstacles) {
    if (o.breach != Breach::kLatency && o.breach != Breach::kUtilisation) continue;
    if (looked++ == nearest) break;
    const DeviceId d = fleet.device_named(o.device);
    Variant variant(placer, app, d);
    const double factor = highest_factor(variant);
    const double rate = fleet.application(app).rate_per_s * factor;
    if (rate > advice.highest_rate_per_s &&
        (!reserved || would_place(placer, fleet, app, factor, variant.limit_ms()))) {
      advice.highest_rate_per_s = rate;
      advice.highest_rate_device = o.device;
    }
    const double limit = loosest_ms(variant, margin);
    if (limit > 0 && (advice.loosest_limit_ms == 0 || limit < advice.loosest_limit_ms) &&
        (!reserved || would_place(placer, fleet, app, 1, limit))) {
      advice.loosest_limit_ms = limit;
      advice.loosest_limit_device = o.device;
    }
  }
  std::set<std::string> seen;
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    const profile::Device& device = fleet.device(d);
    if (!fleet.profile(app, d) || !seen.insert(device.kind).second) continue;
    Load alone{&device, {}};
    add(alone, fleet.part(app, d, 1));
    if (!check(alone, placer.judge(), placer.options().promise).holds()) continue;
    Fleet larger = fleet;
    profile::Device extra = device;
    extra.name += "+1";
    larger.add_device(std::move(extra));
    const auto& limit = fleet.application(app).limit;
    if (!reserved || would_place(placer, std::move(larger), app, 1, limit.latency_ms)) {
      advice.idle_kinds.push_back(device.kind);
    }
  }
  PlacerOptions options = placer.options();
  options.moves = 2;
  Fleet copy = fleet;
  Placer mover(copy, placer.judge(), options);
  if (mover.reserve_all()) return advice;  // as it stands it does not survive: no room to promise
  const Decision moved = mover.admit(app);
  if (moved.placed && !moved.moves.empty()) {
    advice.moves = moved.moves;
    advice.moves_device = moved.where.front().device;
  }
  return advice;
}

std::string sentence(const Obstacle& o, const std::string& newcomer) {
  switch (o.breach) {
    case Breach::kNone:
      return "on " + o.device + " it fits";
    case Breach::kNoProfile:
      return fmt::format("{} is of a kind for which its model has no profile", o.device);
    case Breach::kPinned:
      return fmt::format("it may not be on {}, being pinned elsewhere", o.device);
    case Breach::kApart:
      return fmt::format("on {} there is {}, of the same group ({}) that is kept apart", o.device,
                         o.application, o.detail);
    case Breach::kMemory:
      return fmt::format("on {} memory is short by {:.1f} MB", o.device, o.by * 1e-6);
    case Breach::kUtilisation:
      return fmt::format("{} would be busy for {:.0f} % of the time", o.device, 100 * o.by);
    case Breach::kNoModel:
      return fmt::format("on {} no latency can be promised: {}", o.device, o.detail);
    case Breach::kReserve:
      return fmt::format(
          "on {} everything would hold now, but not after the loss of {}: nothing could take {} in",
          o.device, o.lost, o.application);
    case Breach::kLatency:
      break;
  }
  const std::string whose = o.application == newcomer ? "its p" : "the p";
  const std::string of = o.application == newcomer ? "" : " of " + o.application;
  std::string text = fmt::format("on {} {}{:g}{} would be {}", o.device, whose, o.percentile, of,
                                 ms(o.predicted_ms));
  if (o.error_ms >= 0.05) text += fmt::format(" (error {})", ms(o.error_ms));
  if (o.predicted_ms > o.limit_ms) {
    text +=
        fmt::format(", {} over its limit ({:g} ms)", ms(o.predicted_ms - o.limit_ms), o.limit_ms);
  } else {
    text += fmt::format(", {} below its limit ({:g} ms) where {} must stay free",
                        ms(o.limit_ms - o.predicted_ms), o.limit_ms, ms(o.limit_ms - o.allowed_ms));
  }
  if (o.term_ms > 0) {
    text += fmt::format(", because of the {} (+{} in the mean)", name_of(o.term), ms(o.term_ms));
  }
  return text;
}

std::string sentences(const Decision& d) {
  std::string text;
  if (d.placed) {
    for (const Move& m : d.moves) {
      text += fmt::format("First {} moves from {} to {}.\n", m.application, m.from, m.to);
    }
    for (const auto& setting : d.settings) {
      text += fmt::format("{} is to serve {}, waiting {:g} ms for company.\n", setting.name,
                          name_of(setting.discipline), setting.batch_wait_us * 1e-3);
    }
    text += fmt::format("{} is on {}.", d.application, where_of(d));
    std::vector<Slack> slacks = d.slacks;
    std::sort(slacks.begin(), slacks.end(), [&](const Slack& a, const Slack& b) {
      return std::make_tuple(a.application != d.application, -a.slack_ms, a.application, a.device) <
             std::make_tuple(b.application != d.application, -b.slack_ms, b.application, b.device);
    });
    for (const Slack& s : slacks) text += "\n" + slack_sentence(s);
    return text;
  }
  text = fmt::format("{} is not placed", d.application);
  if (d.obstacles.empty()) return text + ": no device is there.";
  text += ": " + sentence(d.obstacles.front(), d.application);
  for (std::size_t i = 1; i < std::min<std::size_t>(d.obstacles.size(), 3); ++i) {
    text += "; " + sentence(d.obstacles[i], d.application);
  }
  if (d.obstacles.size() > 3) text += fmt::format("; and so on, {} devices", d.obstacles.size());
  text += ".";
  if (d.advice) text += advice_sentences(*d.advice);
  return text;
}

}  // namespace outboard::manage
