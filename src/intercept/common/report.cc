// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <iterator>

#include "base/array_document.h"
#include "base/log.h"
#include "intercept/common/json_writer.h"
#include "wire/tensor_coder.h"

namespace outboard::intercept {
namespace {

// The command line of this process, its arguments separated by blanks.
std::string command_line() {
  std::string text(4096, '\0');
  const int fd = ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const ssize_t size = ::read(fd, text.data(), text.size());
  ::close(fd);
  text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  while (!text.empty() && text.back() == '\0') text.pop_back();
  for (char& c : text) {
    if (c == '\0') c = ' ';
  }
  return text;
}

double per_run_us(std::uint64_t sum_ns, std::uint64_t runs) {
  return runs == 0 ? 0 : static_cast<double>(sum_ns) / static_cast<double>(runs) / 1e3;
}

std::uint64_t network_ns(const AccountFigures& s) {
  const std::uint64_t inside = s.queue_ns + s.compute_ns;
  return s.wait_ns > inside ? s.wait_ns - inside : 0;
}

std::string bytes_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e4) return fmt::format("{} B", bytes);
  if (value < 1e7) return fmt::format("{:.1f} kB", value / 1e3);
  if (value < 1e10) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.1f} GB", value / 1e9);
}

std::string where_local(const AccountFigures& s) {
  std::string text = "here";
  for (std::size_t i = 1; i < kLocalReasons; ++i) {
    if (s.local_by_reason[i] == 0) continue;
    text.append(text.size() == 4 ? ": " : ", ").append(name_of(static_cast<LocalReason>(i)));
  }
  return text;
}

constexpr std::string_view kRow =
    "{:>7}  {:<24}  {:<34}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}  {:>7}  {:>7}  {:>7}  {:>8}  {:>7}\n";

std::string shortened(const std::string& text, std::size_t width) {
  return text.size() <= width ? text : "..." + text.substr(text.size() - width + 3);
}

void append_server_row(std::string& table, const AccountFigures& s) {
  const auto us = [&](std::uint64_t sum) {
    return fmt::format("{:.0f}", per_run_us(sum, s.server_runs));
  };
  fmt::format_to(std::back_inserter(table), fmt::runtime(kRow), s.id, shortened(s.model, 24),
                 shortened("server " + s.server, 34), s.server_runs,
                 fmt::format("{:.3f}", s.server_time.percentile_ns(0.5) / 1e6),
                 fmt::format("{:.3f}", s.server_time.percentile_ns(0.95) / 1e6),
                 bytes_text(s.bytes_sent), bytes_text(s.bytes_received), us(s.send_ns),
                 us(network_ns(s)), us(s.queue_ns), us(s.compute_ns), us(s.receive_ns));
}

void append_local_row(std::string& table, const AccountFigures& s) {
  fmt::format_to(std::back_inserter(table), fmt::runtime(kRow), s.id, shortened(s.model, 24),
                 shortened(where_local(s), 34), s.local_runs,
                 fmt::format("{:.3f}", s.local_time.percentile_ns(0.5) / 1e6),
                 fmt::format("{:.3f}", s.local_time.percentile_ns(0.95) / 1e6), "", "", "", "", "",
                 "", "");
}

void write_times(JsonWriter& json, std::string_view name, const Histogram& times) {
  json.key(name).begin_object().member("count", times.count());
  json.member("mean", times.mean_ns() / 1e3);
  json.member("p50", times.percentile_ns(0.5) / 1e3).member("p95", times.percentile_ns(0.95) / 1e3);
  json.member("max", static_cast<double>(times.max_ns()) / 1e3).end_object();
}

void write_session(JsonWriter& json, const AccountFigures& s) {
  json.begin_object().member("session", s.id);
  json.key("model").begin_object().member("name", s.model).member("sha256", s.sha256);
  json.member("size_bytes", s.model_bytes).end_object();
  json.member("server", s.server).member("why_local", s.why_local);
  json.key("runs").begin_object().member("server", s.server_runs).member("local", s.local_runs);
  json.member("failed", s.failed_runs).member("replayed", s.replayed_runs);
  json.key("local_because").begin_object();
  for (std::size_t i = 1; i < kLocalReasons; ++i) {
    const auto reason = static_cast<LocalReason>(i);
    if (s.local_by_reason[i] > 0) json.member(name_of(reason), s.local_by_reason[i]);
  }
  json.end_object().end_object();
  json.key("hedged").begin_object().member("runs", s.hedged_runs);
  json.member("won_by_server", s.hedged_runs - s.hedges_won_here - s.hedges_won_elsewhere);
  json.member("won_here", s.hedges_won_here).member("won_by_other_server", s.hedges_won_elsewhere);
  json.member("deadline_missed", s.deadline_missed_runs).end_object();
  json.key("explored").begin_object().member("runs", s.explored_runs);
  json.member("cost_us", static_cast<double>(s.explored_ns) / 1e3).end_object();
  json.key("verified").begin_object().member("runs", s.verified_runs);
  json.member("differing", s.differing_runs).member("not_possible", s.unverified_runs);
  json.member("first_difference", s.difference).end_object();
  json.key("local_sessions").begin_object().member("opened", s.local_opened);
  json.member("given_back", s.local_given_back).end_object();
  write_times(json, "server_run_us", s.server_time);
  write_times(json, "local_run_us", s.local_time);
  json.member("bytes_sent", s.bytes_sent).member("bytes_received", s.bytes_received);
  json.key("coding").begin_object().member("used", wire::names_of(s.codings));
  json.member("raw_bytes_sent", s.raw_bytes_sent)
      .member("raw_bytes_received", s.raw_bytes_received);
  json.member("encode_mean_us", per_run_us(s.encode_ns, s.server_runs));
  json.member("decode_mean_us", per_run_us(s.decode_ns, s.server_runs)).end_object();
  json.key("server_run_mean_us").begin_object();
  json.member("send", per_run_us(s.send_ns, s.server_runs));
  json.member("wait", per_run_us(s.wait_ns, s.server_runs));
  json.member("network", per_run_us(network_ns(s), s.server_runs));
  json.member("queue", per_run_us(s.queue_ns, s.server_runs));
  json.member("compute", per_run_us(s.compute_ns, s.server_runs));
  json.member("receive", per_run_us(s.receive_ns, s.server_runs));
  json.member("server_receive", per_run_us(s.server_receive_ns, s.server_runs));
  json.end_object().end_object();
}

}  // namespace

std::string_view name_of(ServerLink::State state) {
  switch (state) {
    case ServerLink::State::kUnknown:
      return "not asked";
    case ServerLink::State::kUp:
      return "up";
    case ServerLink::State::kDraining:
      return "draining";
    case ServerLink::State::kDown:
      return "down";
    case ServerLink::State::kSilent:
      return "silent";
    case ServerLink::State::kDistrusted:
      return "distrusted";
  }
  return "";
}

std::string summary_table(const std::vector<AccountFigures>& sessions) {
  std::string table = fmt::format("outboard: where the inference of process {} ran\n", ::getpid());
  fmt::format_to(std::back_inserter(table), fmt::runtime(kRow), "", "", "", "", "p50", "p95", "",
                 "", "mean us", "a Run:", "", "", "");
  fmt::format_to(std::back_inserter(table), fmt::runtime(kRow), "session", "model", "where", "Runs",
                 "ms", "ms", "sent", "received", "send", "network", "queue", "compute", "receive");
  for (const AccountFigures& s : sessions) {
    if (s.server_runs > 0) append_server_row(table, s);
    if (s.local_runs > 0 || s.server_runs == 0) append_local_row(table, s);
  }
  for (const AccountFigures& s : sessions) {
    if (s.codings != 0) {
      fmt::format_to(std::back_inserter(table),
                     "session {}: coded ({}), {} sent instead of {}, {} received instead of {}\n",
                     s.id, wire::names_of(s.codings), bytes_text(s.bytes_sent),
                     bytes_text(s.raw_bytes_sent), bytes_text(s.bytes_received),
                     bytes_text(s.raw_bytes_received));
    }
    if (s.hedged_runs > 0) {
      fmt::format_to(std::back_inserter(table),
                     "session {}: {} late Runs begun a second time; answered first by the server: "
                     "{}, here: {}, by another server: {}\n",
                     s.id, s.hedged_runs,
                     s.hedged_runs - s.hedges_won_here - s.hedges_won_elsewhere, s.hedges_won_here,
                     s.hedges_won_elsewhere);
    }
    if (s.deadline_missed_runs > 0) {
      fmt::format_to(std::back_inserter(table), "session {}: {} Runs missed the deadline\n", s.id,
                     s.deadline_missed_runs);
    }
    if (s.verified_runs + s.unverified_runs > 0) {
      fmt::format_to(std::back_inserter(table),
                     "session {}: {} Runs verified, {} differ, {} could not be done here{}{}\n",
                     s.id, s.verified_runs, s.differing_runs, s.unverified_runs,
                     s.difference.empty() ? "" : "; the first: ", s.difference);
    }
    if (s.failed_runs > 0) {
      fmt::format_to(std::back_inserter(table), "session {}: {} Runs failed\n", s.id,
                     s.failed_runs);
    }
    if (!s.why_local.empty()) {
      fmt::format_to(std::back_inserter(table), "session {} stayed here: {}\n", s.id, s.why_local);
    }
  }
  return table;
}

std::string summary_json(const Config& config, const std::vector<AccountFigures>& sessions,
                         const std::vector<ServerFigures>& servers, bool ended) {
  JsonWriter json;
  json.begin_object().member("process", std::int64_t{::getpid()}).member("command", command_line());
  json.member("mode", config.mode == Mode::kLocal    ? "local"
                      : config.mode == Mode::kRemote ? "remote"
                                                     : "auto");
  json.member("ended", ended).key("servers").begin_array();
  for (const ServerFigures& server : servers) {
    json.begin_object().member("address", server.address).member("state", server.state);
    json.member("transport", server.transport);
    json.member("frames_sent", server.frames_sent);
    json.member("frames_received", server.frames_received).end_object();
  }
  json.end_array().key("sessions").begin_array();
  for (const AccountFigures& session : sessions) write_session(json, session);
  json.end_array().end_object();
  return json.text();
}

void write_summary_json(const Config& config, std::string entry, std::string& entry_before) {
  const auto written =
      replace_in_array_document(config.json_path, kReportHead, entry_before, entry);
  if (!written) log_error("the summary was not written: {}", written.error().message);
  entry_before = std::move(entry);
}

void write_table_and_trace(const Config& config, const std::vector<AccountFigures>& sessions,
                           const Trace& trace) {
  if (config.summary) {
    const std::string table = summary_table(sessions);
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, table.data(), table.size());
  }
  if (config.trace_path.empty()) return;
  const std::string events = chrome_events(trace.events(), static_cast<std::uint32_t>(::getpid()),
                                           shortened(command_line(), 80));
  const auto written = append_to_array_document(config.trace_path, kTraceHead, events);
  if (!written) log_error("the trace was not written: {}", written.error().message);
  if (trace.dropped() > 0) {
    log_warn("the trace holds the first {} Runs; {} later ones are missing", Trace::kMaxEvents,
             trace.dropped());
  }
}

}  // namespace outboard::intercept
