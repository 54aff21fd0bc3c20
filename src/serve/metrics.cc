// SPDX-License-Identifier: Apache-2.0
#include "serve/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "serve/worker/workers.h"

namespace outboard::serve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

double as_double(std::uint64_t count) { return static_cast<double>(count); }

class Families {
 public:
  // A further sample of the last family where the name is the same.
  void gauge(const char* name, const char* help, double value, Labels labels = {}) {
    add(name, help, MetricType::Gauge, std::move(labels)).gauge.value = value;
  }
  void counter(const char* name, const char* help, std::uint64_t value, Labels labels = {}) {
    add(name, help, MetricType::Counter, std::move(labels)).counter.value =
        static_cast<double>(value);
  }
  void histogram(const char* name, const char* help, const TimeWindow::Histogram& times,
                 Labels labels) {
    ClientMetric& metric = add(name, help, MetricType::Histogram, std::move(labels));
    std::uint64_t so_far = 0;
    for (std::size_t i = 0; i < times.counts.size(); ++i) {
      so_far += times.counts[i];
      const bool last = i == TimeWindow::kBounds_s.size();
      metric.histogram.bucket.push_back(
          {so_far, last ? std::numeric_limits<double>::infinity() : TimeWindow::kBounds_s[i]});
    }
    metric.histogram.sample_count = so_far;
    metric.histogram.sample_sum = times.sum_s;
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  ClientMetric& add(const char* name, const char* help, MetricType type, Labels labels) {
    if (families_.empty() || families_.back().name != name)
      families_.push_back({name, help, type, {}});
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  std::vector<MetricFamily> families_;
};

void add_server(Families& f, const Shared& shared) {
  const std::chrono::duration<double> uptime = Clock::monotonic().now() - shared.started;
  f.gauge("outboard_build_info", "What serves: always 1.", 1,
          {{"software", shared.settings.software},
           {"engine", shared.engine->name() + " " + shared.engine->version()},
           {"device", shared.engine->device()}});
  f.gauge("outboard_uptime_seconds", "Time since the server started.", uptime.count());
  f.gauge("outboard_draining", "1 while the server ends and takes no new work.",
          shared.draining ? 1 : 0);
  f.gauge("outboard_slots", "Runs that may compute at the same time.",
          as_double(shared.settings.slots));
  f.gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
          as_double(resident_bytes()));
}

void add_connections(Families& f, const Statistics& s) {
  f.gauge("outboard_connections", "Connections that are open.", as_double(s.connections));
  f.counter("outboard_connections_total", "Connections since the start.", s.connections_total);
  f.counter("outboard_bad_connections_total", "Connections ended because of what they sent.",
            s.bad_connections);
  f.counter("outboard_received_bytes_total", "Bytes of all frames received.", s.bytes_received);
  f.counter("outboard_sent_bytes_total", "Bytes of all frames sent.", s.bytes_sent);
}

void add_workers(Families& f, const Workers& workers) {
  f.counter("outboard_workers_started_total", "Worker processes that were started.",
            workers.started());
  f.counter("outboard_workers_failed_total",
            "Worker processes that ended by themselves or at a time limit.", workers.failed());
  std::map<std::string, std::uint64_t> resident;  // a tenant's next one may be there already
  for (const Workers::Row& row : workers.rows()) resident[row.tenant] += row.resident_bytes;
  for (const auto& [tenant, bytes] : resident)
    f.gauge("outboard_worker_resident_memory_bytes", "Resident memory of a tenant's worker.",
            as_double(bytes), {{"tenant", tenant}});
}

// A family's samples belong together, so each loops over the tenants: `value` is of one of them.
void add_tenants(Families& f, const Shared& shared) {
  const std::vector<const Tenant*> tenants = shared.tenants.all();
  const auto label = [](const Tenant& t) { return ClientMetric::Label{"tenant", t.name()}; };
  const auto gauges = [&](const char* name, const char* help, const auto& value) {
    for (const Tenant* t : tenants)
      f.gauge(name, help, static_cast<double>(value(*t)), {label(*t)});
  };
  for (const Tenant* t : tenants) {
    const Statistics& s = t->statistics();
    for (const auto& [result, count] : {std::pair{"done", s.runs.load()},
                                        {"failed", s.failed_runs.load()},
                                        {"cancelled", s.cancelled_runs.load()},
                                        {"refused", s.refused_runs.load()}})
      f.counter("outboard_runs_total", "Runs by how they ended.", count,
                {label(*t), {"result", result}});
  }
  for (const Tenant* t : tenants)
    f.counter("outboard_uploaded_bytes_total", "Bytes of models received.",
              t->statistics().upload_bytes, {label(*t)});
  for (const Tenant* t : tenants)
    f.histogram("outboard_queue_seconds", "Time of a Run waiting for the device.",
                t->statistics().queue.histogram(), {label(*t)});
  for (const Tenant* t : tenants)
    f.histogram("outboard_compute_seconds", "Time of a Run in the engine.",
                t->statistics().compute.histogram(), {label(*t)});
  gauges("outboard_runs_in_flight", "Runs under way, waiting ones included.",
         [](const Tenant& t) { return t.statistics().in_flight.load(); });
  gauges("outboard_in_flight_bytes", "Inputs of Runs under way.",
         [](const Tenant& t) { return t.statistics().in_flight_bytes.load(); });
  gauges("outboard_queue_depth", "Runs that compute or wait for the device.",
         [](const Tenant& t) { return t.queue_depth(); });
  gauges("outboard_tenant_weight", "A tenant's weight in the sharing of the device.",
         [](const Tenant& t) { return t.spec().weight; });
  gauges("outboard_sessions", "Sessions open in the engine.",
         [](const Tenant& t) { return t.sessions().rows().size(); });
  gauges("outboard_store_models", "Models in the store.",
         [](const Tenant& t) { return t.store().totals().models; });
  gauges("outboard_store_bytes", "Bytes in the store.",
         [](const Tenant& t) { return t.store().totals().used_bytes; });
  gauges("outboard_store_limit_bytes", "How large the store may become.",
         [](const Tenant& t) { return t.store().totals().limit_bytes; });
}

}  // namespace

std::string metrics_text(const Shared& shared) {
  Families families;
  add_server(families, shared);
  add_connections(families, shared.statistics);
  if (shared.workers) add_workers(families, *shared.workers);
  add_tenants(families, shared);
  return families.text();
}

}  // namespace outboard::serve
