// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "intercept/common/json_writer.h"
#include "wire/frame.h"
#include "wire/tensor_coder.h"

namespace outboard::intercept {
namespace {

// The server's rows get a process number of their own beside the client's.
constexpr std::uint64_t kServerProcessOffset = 1'000'000'000;
// Likewise those of its worker processes.
constexpr std::uint64_t kWorkerProcessOffset = 2'000'000'000;

void write_span(JsonWriter& json, std::uint64_t process, std::uint64_t thread,
                std::string_view name, double start_ns, double time_ns) {
  json.begin_object().member("name", name).member("ph", "X").member("cat", "run");
  json.member("pid", process).member("tid", thread);
  json.member("ts", start_ns / 1e3).member("dur", time_ns / 1e3).end_object();
}

void write_name(JsonWriter& json, std::uint64_t process, std::string_view name) {
  json.begin_object().member("name", "process_name").member("ph", "M").member("pid", process);
  json.key("args").begin_object().member("name", name).end_object().end_object();
}

void write_server_run(JsonWriter& json, const TraceEvent& event, std::uint64_t process) {
  const wire::RunAccount& run = event.run;
  const auto start = static_cast<double>(run.start_ns);
  const auto send = static_cast<double>(run.send_ns), wait = static_cast<double>(run.wait_ns);
  write_span(json, process, event.thread, "send", start, send);
  write_span(json, process, event.thread, "wait", start + send, wait);
  write_span(json, process, event.thread, "receive", start + send + wait,
             static_cast<double>(run.receive_ns));
  const ServerSpan span = place_on_client_clock(run);
  const auto queue = static_cast<double>(span.queue_start_ns);
  const auto compute = static_cast<double>(span.compute_start_ns);
  const std::uint64_t server = process + kServerProcessOffset;
  write_span(json, server, event.thread, "queue", start + queue, compute - queue);
  write_span(json, server, event.thread, "compute", start + compute,
             static_cast<double>(span.compute_end_ns) - compute);
  if (run.server.hop_ns == 0) return;
  // In the middle: the way there and back are taken to be equally long.
  const double hop = run.server.hop_ns;
  write_span(json, process + kWorkerProcessOffset, event.thread, "engine",
             start + compute + hop / 2, static_cast<double>(span.compute_end_ns) - compute - hop);
}

}  // namespace

void Trace::add(const TraceEvent& event) {
  const std::lock_guard lock(mutex_);
  if (events_.size() < kMaxEvents) {
    events_.push_back(event);
  } else {
    ++dropped_;
  }
}

std::vector<TraceEvent> Trace::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::uint64_t Trace::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

ServerSpan place_on_client_clock(const wire::RunAccount& run) {
  const std::uint64_t inside = run.server.queue_ns + run.server.compute_ns;
  const std::uint64_t way = run.wait_ns > inside ? (run.wait_ns - inside) / 2 : 0;
  const auto before = [](std::uint64_t at, std::uint64_t time) {
    return at > time ? at - time : 0;
  };
  ServerSpan span;
  span.compute_end_ns = run.send_ns + run.wait_ns - way;
  span.compute_start_ns = before(span.compute_end_ns, run.server.compute_ns);
  span.queue_start_ns = before(span.compute_start_ns, run.server.queue_ns);
  return span;
}

std::string chrome_events(const std::vector<TraceEvent>& events, std::uint32_t process,
                          const std::string& process_name) {
  JsonWriter json;
  write_name(json, process, process_name);
  write_name(json, process + kServerProcessOffset, "servers of " + process_name);
  if (std::any_of(events.begin(), events.end(),
                  [](const TraceEvent& event) { return event.run.server.hop_ns > 0; }))
    write_name(json, process + kWorkerProcessOffset, "workers of " + process_name);
  for (const TraceEvent& event : events) {
    const bool remote = event.place == Place::kServer;
    json.begin_object();
    json.member("name", fmt::format("Run of session {}", event.session));
    json.member("ph", "X").member("cat", "run");
    json.member("pid", std::uint64_t{process}).member("tid", std::uint64_t{event.thread});
    json.member("ts", static_cast<double>(event.start_ns) / 1e3);
    json.member("dur", static_cast<double>(event.time_ns) / 1e3);
    json.key("args").begin_object().member("place", remote ? "server" : "local");
    if (event.explores) json.member("explores", true);
    if (remote) {
      json.member("id", wire::request_name(event.run.request_id));
      json.member("bytes_sent", event.run.bytes_sent);
      json.member("bytes_received", event.run.bytes_received);
      const std::uint64_t inside = event.run.server.queue_ns + event.run.server.compute_ns;
      const std::uint64_t wait = event.run.wait_ns;
      json.member("network_us", static_cast<double>(wait > inside ? wait - inside : 0) / 1e3);
      json.member("queue_us", static_cast<double>(event.run.server.queue_ns) / 1e3);
      json.member("compute_us", static_cast<double>(event.run.server.compute_ns) / 1e3);
      if (event.run.server.hop_ns > 0)
        json.member("hop_us", static_cast<double>(event.run.server.hop_ns) / 1e3);
      if (event.run.codings != 0) {
        json.member("coding", wire::names_of(event.run.codings));
        json.member("raw_bytes_sent", event.run.raw_bytes_sent);
        json.member("raw_bytes_received", event.run.raw_bytes_received);
      }
    } else {
      json.member("reason", name_of(event.reason));
    }
    json.end_object().end_object();
    if (remote) write_server_run(json, event, process);
  }
  return json.text();
}

}  // namespace outboard::intercept
