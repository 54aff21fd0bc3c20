// SPDX-License-Identifier: Apache-2.0
// `outboard manage simulate`: a day of requests through a placement, with bursts and failures.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/manage_fleet.h"
#include "cli/manage_verbs.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "manage/place/day.h"

namespace outboard::cli {
namespace {

using manage::AppDay;
using manage::Day;
using nlohmann::json;

struct Arguments {
  FleetArguments fleet;
  manage::DayOptions day;
  double hours = 24, window_min = 5;
  std::vector<std::string> failures, bursts;
  std::string trace, plot;
};

// "NAME@HOURS+MINUTES[xFACTOR]"
struct Event {
  std::string name;
  double from_s = 0, to_s = 0, factor = 0;
};

Result<Event> event_of(const std::string& option, const std::string& text, bool factor) {
  const auto fault = [&] {
    return error(ErrorKind::kInvalid, "{} ({}) must be NAME@HOURS+MINUTES{}, as in {}@8.5+20{}",
                 option, text, factor ? "xFACTOR" : "", factor ? "gate" : "tpu-0",
                 factor ? "x3" : "");
  };
  const auto at = text.rfind('@');
  const auto plus = text.find('+', at == std::string::npos ? 0 : at);
  if (at == std::string::npos || at == 0 || plus == std::string::npos) return fault();
  const auto x = text.find('x', plus);
  if (factor != (x != std::string::npos)) return fault();
  const auto number = [&](std::size_t from, std::size_t to, double& value) {
    const char* end = text.data() + to;
    const auto [stop, code] = std::from_chars(text.data() + from, end, value);
    return code == std::errc{} && stop == end;
  };
  Event event{text.substr(0, at), 0, 0, 1};
  double hours = 0, minutes = 0;
  const std::size_t end = factor ? x : text.size();
  if (!number(at + 1, plus, hours) || !number(plus + 1, end, minutes)) return fault();
  if (factor && !number(x + 1, text.size(), event.factor)) return fault();
  event.from_s = hours * 3600;
  event.to_s = event.from_s + minutes * 60;
  return event;
}

std::string clock(double time_s) {
  const int minutes = static_cast<int>(time_s / 60);
  return fmt::format("{:02}:{:02}", minutes / 60, minutes % 60);
}

// Chrome trace events (Perfetto opens them): a thread an application, a bar a broken stretch, a
// counter of the late share, an instant a failure.
json trace_of(const Day& day, const manage::DayOptions& options) {
  json events = json::array();
  for (std::size_t i = 0; i < day.applications.size(); ++i) {
    const AppDay& a = day.applications[i];
    events.push_back({{"ph", "M"},
                      {"pid", 1},
                      {"tid", i},
                      {"name", "thread_name"},
                      {"args", {{"name", a.application}}}});
    for (const auto& b : a.broken) {
      events.push_back({{"ph", "X"},
                        {"pid", 1},
                        {"tid", i},
                        {"name", "limit broken"},
                        {"ts", b.from_s * 1e6},
                        {"dur", (b.to_s - b.from_s) * 1e6},
                        {"args", {{"late_percent", 100 * b.late_share}}}});
    }
    for (std::size_t w = 0; w < a.windows.size(); ++w) {
      const auto& window = a.windows[w];
      if (window.requests == 0) continue;
      events.push_back({{"ph", "C"},
                        {"pid", 1},
                        {"name", "late % of " + a.application},
                        {"ts", static_cast<double>(w) * day.window_s * 1e6},
                        {"args", {{"late", 100.0 * window.late / window.requests}}}});
    }
  }
  for (const auto& f : options.failures) {
    events.push_back({{"ph", "X"},
                      {"pid", 2},
                      {"tid", 0},
                      {"name", "lost: " + f.device},
                      {"ts", f.from_s * 1e6},
                      {"dur", (f.to_s - f.from_s) * 1e6}});
  }
  return {{"traceEvents", events}, {"displayTimeUnit", "ms"}};
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else
      result += c;
  }
  return result;
}

// A row an application, a cell a window: white where nothing is late, to red at four times what the
// limit allows; failures are grey columns.
std::string svg_of(const Day& day, const manage::DayOptions& options) {
  constexpr double kLeft = 190, kWidth = 960, kRow = 18, kTop = 30;
  const double height = kTop + kRow * static_cast<double>(day.applications.size()) + 30;
  const double scale = kWidth / options.length_s;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n<text x=\"{}\" y=\"16\">Late requests: white none, red four times what "
      "the "
      "limit allows; grey: device lost</text>\n",
      kLeft + kWidth + 20, height, kLeft);
  for (const auto& f : options.failures) {
    svg += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" fill=\"#ddd\"><title>{} "
        "lost</title></rect>\n",
        kLeft + f.from_s * scale, kTop - 6, std::max(1.0, (f.to_s - f.from_s) * scale),
        height - kTop - 18, escaped(f.device));
  }
  for (std::size_t i = 0; i < day.applications.size(); ++i) {
    const AppDay& a = day.applications[i];
    const double y = kTop + kRow * static_cast<double>(i);
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 6, y + 12,
                       escaped(a.application));
    const double allowed = 1 - a.limit.percentile / 100;
    for (std::size_t w = 0; w < a.windows.size(); ++w) {
      const auto& window = a.windows[w];
      if (window.late == 0) continue;
      const double share = static_cast<double>(window.late) / window.requests;
      svg += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"{}\" fill=\"rgb(200,0,0)\" "
          "fill-opacity=\"{:.2f}\"/>\n",
          kLeft + static_cast<double>(w) * day.window_s * scale, y + 2, day.window_s * scale,
          kRow - 4, std::min(1.0, share / (4 * allowed)));
    }
  }
  for (double t = 0; t <= options.length_s; t += options.length_s / 8) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       kLeft + t * scale, height - 10, clock(t));
  }
  return svg + "</svg>\n";
}

json as_json(const Day& day) {
  json apps = json::array();
  for (const AppDay& a : day.applications) {
    json broken = json::array();
    for (const auto& b : a.broken) {
      broken.push_back({{"from_s", b.from_s}, {"to_s", b.to_s}, {"late_share", b.late_share}});
    }
    apps.push_back({{"application", a.application},
                    {"requests", a.requests},
                    {"late", a.late},
                    {"lost", a.lost},
                    {"late_share", a.late_share()},
                    {"allowed_share", 1 - a.limit.percentile / 100},
                    {"broken", broken}});
  }
  return {{"applications", apps}, {"events", day.events}};
}

void print(const Day& day) {
  std::printf("%-24s %10s %8s %8s  %s\n", "application", "requests", "late %", "lost",
              "limit broken");
  for (const AppDay& a : day.applications) {
    std::string broken;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, a.broken.size()); ++i) {
      const auto& b = a.broken[i];
      broken += fmt::format("{}{}-{} ({:.0f} %)", i ? ", " : "", clock(b.from_s), clock(b.to_s),
                            100 * b.late_share);
    }
    if (a.broken.size() > 3) broken += fmt::format(" and {} more", a.broken.size() - 3);
    std::printf("%-24s %10llu %8.2f %8llu  %s\n", a.application.c_str(),
                static_cast<unsigned long long>(a.requests), 100 * a.late_share(),
                static_cast<unsigned long long>(a.lost), broken.empty() ? "never" : broken.c_str());
  }
}

Result<void> run(Arguments& arguments) {
  arguments.day.length_s = arguments.hours * 3600;
  arguments.day.window_s = arguments.window_min * 60;
  for (const auto& text : arguments.failures) {
    OB_TRY(const Event e, event_of("--fail", text, false));
    arguments.day.failures.push_back({e.name, e.from_s, e.to_s});
  }
  for (const auto& text : arguments.bursts) {
    OB_TRY(const Event e, event_of("--burst", text, true));
    arguments.day.bursts.push_back({e.name, e.from_s, e.to_s, e.factor});
  }
  OB_TRY(const auto f, open_fleet(arguments.fleet));
  OB_CHECK_OK(f->reserve());
  Day day;
  {
    ProgressLine progress;
    arguments.day.progress = [&](std::string_view what, std::size_t done, std::size_t all) {
      progress.show(fmt::format("{} ({} of {})", what, done + 1, all));
    };
    OB_TRY(day, manage::simulate_day(f->placer, arguments.day));
  }
  if (day.applications.empty()) {
    return error(ErrorKind::kInvalid,
                 "no application is on a device; `outboard manage place --write` puts them there");
  }
  if (!arguments.trace.empty()) {
    std::ofstream file(arguments.trace, std::ios::trunc);
    file << trace_of(day, arguments.day).dump() << "\n";
    file.close();
    if (!file) {
      return error(ErrorKind::kNotFound, "file ({}) cannot be written", arguments.trace);
    }
  }
  if (!arguments.plot.empty()) {
    OB_CHECK_OK(write_picture(arguments.plot, svg_of(day, arguments.day)));
  }
  if (arguments.fleet.json) {
    std::puts(as_json(day).dump(2).c_str());
  } else {
    print(day);
  }
  return {};
}

}  // namespace

void add_manage_simulate(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand(
      "simulate",
      "Simulate a day of requests through a placement and say whose limits broke, and when");
  auto a = std::make_shared<Arguments>();
  add_fleet_options(*verb, a->fleet);
  verb->add_option("--hours", a->hours, "Length of the day")
      ->check(CLI::Range(0.01, 168.0))
      ->capture_default_str();
  verb->add_option("--window", a->window_min, "Minutes over which a limit is looked at")
      ->check(CLI::Range(0.1, 1440.0))
      ->capture_default_str();
  verb->add_option("--fail", a->failures,
                   "A device that is lost, from when and for how long: DEVICE@HOURS+MINUTES");
  verb->add_option("--burst", a->bursts,
                   "An application that asks more: APPLICATION@HOURS+MINUTESxFACTOR");
  verb->add_option("--detect", a->day.detect_s, "Seconds until a lost device is noticed")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  verb->add_option("--seed", a->day.seed, "Seed of the arrivals");
  verb->add_option("--trace", a->trace, "Write Chrome trace events into this file");
  verb->add_option("--plot", a->plot, "Draw the day into an .svg or .png file");
  verb->callback([a, &exit_code] {
    const auto done = run(*a);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
