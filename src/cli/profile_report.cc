// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "profile/json/cluster.h"
#include "profile/json/link.h"
#include "profile/json/reader.h"
#include "profile/run_cost.h"

namespace outboard::cli {
namespace {

using nlohmann::json;

// Smaller transfers tell more of the software than of the link.
constexpr std::uint64_t kTellingTransferBytes = 256u << 10;

template <typename Member>
std::vector<double> column(const Measurement& measurement, Member RunTimes::* member) {
  std::vector<double> values;
  values.reserve(measurement.runs.size());
  for (const RunTimes& run : measurement.runs) values.push_back(static_cast<double>(run.*member));
  return values;
}

// The smallest value that at least this share of them does not exceed.
double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const double rank = std::max(1.0, std::ceil(share * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(rank) - 1;
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

json summary_ms(const std::vector<double>& values_us) {
  return {{"mean", mean(values_us) / 1e3},
          {"p50", percentile(values_us, 0.50) / 1e3},
          {"p95", percentile(values_us, 0.95) / 1e3},
          {"p99", percentile(values_us, 0.99) / 1e3}};
}

void refine_rates(const Measurement& measurement, profile::LinkPair& link) {
  std::vector<profile::Transfer> up, down;
  for (const RunTimes& run : measurement.runs) {
    if (run.request_bytes >= kTellingTransferBytes)
      up.push_back({run.request_bytes, run.server_receive_us});
    if (run.reply_bytes >= kTellingTransferBytes) down.push_back({run.reply_bytes, run.receive_us});
  }
  if (const double rate = median_rate_bytes_per_s(up); rate > 0) link.up.rate_bytes_per_s = rate;
  if (const double rate = median_rate_bytes_per_s(down); rate > 0)
    link.down.rate_bytes_per_s = rate;
}

// The median of what a Run took beyond the model's terms.
double call_us(const Measurement& measurement, const profile::LinkPair& link) {
  std::vector<double> rests;
  rests.reserve(measurement.runs.size());
  for (const RunTimes& run : measurement.runs) {
    const auto cost = profile::remote_cost(
        {.compute_us = run.compute_us, .queue_us = run.queue_us}, link,
        {.request_bytes = run.request_bytes, .reply_bytes = run.reply_bytes}, 0);
    rests.push_back(run.total_us - cost.total_us());
  }
  return std::max(0.0, percentile(std::move(rests), 0.5));
}

json as_json(const ModelReport& model, bool remote) {
  const Measurement& m = model.measurement;
  json inputs = json::array();
  for (const NamedInput& input : model.inputs)
    inputs.push_back({{"name", input.name}, {"type", input.type}, {"dims", input.dims}});
  json result = {{"model", model.profile.model},
                 {"path", model.path},
                 {"runs", m.runs.size()},
                 {"interrupted", m.interrupted},
                 {"inputs", inputs},
                 {"total_ms", summary_ms(column(m, &RunTimes::total_us))},
                 {"load_ms", summary_ms(model.load_us)}};
  if (m.failure) result["failure"] = m.failure->message;
  if (const TogetherTimes& t = model.together; !t.after_own_us.empty()) {
    result["together"] = {{"rounds", t.after_own_us.size()},
                          {"after_other_ms", summary_ms(t.after_other_us)},
                          {"after_own_ms", summary_ms(t.after_own_us)},
                          {"swap_ms", t.swap_us() / 1e3}};
    if (!t.at_once_us.empty()) result["together"]["at_once_ms"] = summary_ms(t.at_once_us);
  }
  if (!remote || m.runs.empty()) return result;
  result["request_bytes"] = m.runs.back().request_bytes;
  result["reply_bytes"] = m.runs.back().reply_bytes;
  result["send_ms"] = summary_ms(column(m, &RunTimes::send_us));
  result["queue_ms"] = summary_ms(column(m, &RunTimes::queue_us));
  result["compute_ms"] = summary_ms(column(m, &RunTimes::compute_us));
  result["receive_ms"] = summary_ms(column(m, &RunTimes::receive_us));
  result["call_ms"] = model.call_us / 1e3;
  return result;
}

std::string rate_text(double rate_bytes_per_s) {
  return rate_bytes_per_s > 0 ? fmt::format("{:.0f} Mbit/s", rate_bytes_per_s * 8e-6)
                              : "too fast to tell";
}

}  // namespace

void conclude(ModelReport& model, LinkReport* link) {
  const Measurement& m = model.measurement;
  if (auto load = profile::Distribution::from_samples(model.load_us)) model.profile.load = *load;
  if (auto service = profile::Distribution::from_samples(column(m, &RunTimes::compute_us)))
    model.profile.service = *service;
  if (link == nullptr) return;
  refine_rates(m, link->link);
  model.call_us = call_us(m, link->link);
}

std::string as_json_text(const ProfileReport& report) {
  json models = json::array(), measurements = json::array(), links = json::array();
  for (const ModelReport& model : report.models) {
    if (!model.measurement.runs.empty()) models.push_back(profile::as_json(model.profile));
    measurements.push_back(as_json(model, report.link.has_value()));
  }
  if (report.link) {
    json link = profile::as_json(profile::NamedLink{report.link->to, report.link->link});
    links.push_back(std::move(link));
  }
  json result = {{"engine", report.engine},
                 {"interrupted", report.interrupted},
                 {"devices", json::array({profile::as_json(report.device)})},
                 {"models", models},
                 {"links", links},
                 {"measurements", measurements}};
  if (report.link) result["round_trip_ms"] = profile::as_json(report.link->round_trip);
  return result.dump(1) + "\n";
}

std::string as_table(const ProfileReport& report) {
  std::string text = fmt::format("{} on {}\n", report.engine, report.device.name);
  if (report.link) {
    const profile::LinkPair& link = report.link->link;
    text += fmt::format("link: {:.3f} ms and {} up, {:.3f} ms and {} down\n",
                        link.up.delay_us / 1e3, rate_text(link.up.rate_bytes_per_s),
                        link.down.delay_us / 1e3, rate_text(link.down.rate_bytes_per_s));
  }
  constexpr const char* kRow = "{:<24} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}\n";
  text += fmt::format(fmt::runtime(kRow), "model", "runs", "mean ms", "p50 ms", "p95 ms", "p99 ms",
                      "load ms", "memory MB");
  const auto ms = [](double us) { return fmt::format("{:.3f}", us / 1e3); };
  for (const ModelReport& model : report.models) {
    const std::vector<double> total = column(model.measurement, &RunTimes::total_us);
    const std::uint64_t memory = model.profile.memory_bytes;
    text +=
        fmt::format(fmt::runtime(kRow), model.profile.model, total.size(), ms(mean(total)),
                    ms(percentile(total, 0.50)), ms(percentile(total, 0.95)),
                    ms(percentile(total, 0.99)), ms(percentile(model.load_us, 0.5)),
                    memory > 0 ? fmt::format("{:.1f}", static_cast<double>(memory) / 1e6) : "-");
  }
  return text;
}

}  // namespace outboard::cli
