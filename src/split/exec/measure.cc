// SPDX-License-Identifier: Apache-2.0
#include "split/exec/measure.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "base/files.h"
#include "base/log.h"
#include "engine/element_type.h"
#include "profile/json/rows.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Few and telling: single rows, where calls are dear, and the shares of two to eight nodes.
std::set<int> row_points(int rows) {
  std::set<int> points = {rows};
  for (int n : {1, 2, 4}) points.insert(std::min(n, rows));
  for (int share : {8, 4, 3, 2}) points.insert(std::max(1, rows / share));
  return points;
}

// Writes over what the caches hold, as the other units of a model do between two Runs of one.
void empty_caches() {
  static const std::size_t kSize = [] {
    const long known = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
    return std::clamp<std::size_t>(known > 0 ? static_cast<std::size_t>(known) : 0, 16u << 20,
                                   64u << 20);
  }();
  thread_local std::vector<char> memory(kSize);
  std::memset(memory.data(), memory[0] + 1, memory.size());
}

// Brings it back into them.
void read_all(std::span<const std::byte> bytes) {
  constexpr std::size_t kLine = 64;
  unsigned sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += kLine) sum += static_cast<unsigned>(bytes[i]);
  [[maybe_unused]] volatile unsigned kept = sum;
}

enum class Weights : std::uint8_t { kWarm, kCold };

// The least time of a Run, of `seconds` of them and at least three: what the computation takes when
// nothing else does. Inputs come from the unit before, so they are in the caches; weights are not,
// unless one unit runs again and again.
Result<double> least_us(engine::Session& session, const RowsOptions& options,
                        Weights weights = Weights::kWarm) {
  std::vector<std::vector<std::byte>> memory;
  std::vector<engine::InputView> inputs;
  for (const auto& in : session.info().inputs) {
    memory.push_back(plausible_bytes(in.type, in.dims));
    inputs.push_back({in.type, in.dims, memory.back(), {}});
  }
  std::vector<engine::OutputWanted> outputs;
  outputs.reserve(session.info().outputs.size());
  for (std::uint32_t i = 0; i < session.info().outputs.size(); ++i) outputs.push_back({i, nullptr});
  double least = std::numeric_limits<double>::infinity(), spent_s = 0;
  const double seconds = weights == Weights::kCold ? 0 : options.seconds_per_point;
  for (int run = 0; run < 5 || (spent_s < seconds && run < 1000); ++run) {
    if (weights == Weights::kCold) {
      empty_caches();
      for (const auto& bytes : memory) read_all(bytes);
    }
    OB_TRY(const double us, time_run(session, inputs, outputs, options.threads));
    spent_s += us / 1e6;
    if (run > 0) least = std::min(least, us);  // the first one warms up
  }
  return least;
}

// What leaves the unit, for `rows` rows from the middle of its main output.
std::vector<TensorRows> wanted_of(const Graph& graph, const Unit& unit, int rows,
                                  std::vector<SlotRows>& slots) {
  const int all = graph.main_output(unit).rows, lo = (all - rows) / 2;
  const auto scaled = [&](int height) {
    const int a = static_cast<int>(std::int64_t{lo} * height / all);
    return Rows{a, std::max(a + 1, static_cast<int>(std::int64_t{lo + rows} * height / all))};
  };
  for (const auto& op : graph.ops)
    if (op.kind == OpKind::kPartial)
      slots.push_back({op.outputs[0], {scaled(graph.tensors[at(op.inputs[0].tensor)].rows)}});
  std::vector<TensorRows> wanted;
  for (int i = unit.first_op; i < unit.end_op; ++i)
    for (int t : graph.ops[at(i)].outputs) {
      const auto& tensor = graph.tensors[at(t)];
      if (!tensor.is_output && (tensor.consumers.empty() || tensor.consumers.back() < unit.end_op))
        continue;
      const bool divided = tensor.kind == TensorKind::kRows && !tensor.host_owned;
      wanted.push_back(
          {t, divided ? scaled(tensor.rows) : Rows{0, tensor.host_owned ? tensor.rows : 1}});
    }
  return wanted;
}

bool has_weights(const Graph& graph, const Unit& unit) {
  return std::any_of(graph.ops.begin() + unit.first_op, graph.ops.begin() + unit.end_op,
                     [](const Op& op) { return op.weight_bytes > 64e3; });
}

struct BandTime {
  double us = 0;
  double cold_us = 0;  // what weights from memory add
};

Result<BandTime> time_band(engine::Engine& engine, const Graph& graph, int unit, int rows,
                           const RowsOptions& options, bool cold) {
  std::vector<SlotRows> slots;
  const auto wanted = wanted_of(graph, graph.units[at(unit)], rows, slots);
  if (wanted.empty()) return BandTime{};
  const BandOpener opener(engine, graph,
                          {.channels = options.block_channels, .threads = options.threads});
  OB_TRY(const auto session, opener.open({unit, unit + 1, wanted, slots}));
  BandTime time;
  OB_TRY(time.us, least_us(*session, options));
  if (!cold || !has_weights(graph, graph.units[at(unit)])) return time;
  OB_TRY(const double cold_us, least_us(*session, options, Weights::kCold));
  time.cold_us = std::max(0.0, cold_us - time.us);
  return time;
}

// Every call reads its weights, however many rows it computes; those of a layer whose weights
// divide like its rows (`shared`) only the share. One row tells best what that takes: of many it is
// a small difference of large numbers, and some of it passes behind the arithmetic, so it is at
// most that.
void add_cold(profile::RowCurve& curve, bool shared, double first_us, double all_us) {
  const double first = curve.rows.front(), all = curve.rows.back();
  for (std::size_t i = 0; i < curve.rows.size(); ++i) {
    const double n = curve.rows[i], along = all > first ? (n - first) / (all - first) : 1;
    curve.time_us[i] +=
        shared ? all_us * n / all : first_us + along * (std::min(first_us, all_us) - first_us);
  }
}

}  // namespace

double us_since(Nanoseconds start) {
  return std::chrono::duration<double, std::micro>(Clock::monotonic().now() - start).count();
}

Result<double> time_run(engine::Session& session, std::span<const engine::InputView> inputs,
                        std::span<const engine::OutputWanted> outputs, int threads) {
  const clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const auto now_us = [clock] {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
  };
  const double begin_us = now_us();
  OB_TRY(const auto result, session.run(inputs, outputs));
  const double took_us = now_us() - begin_us;
  return threads == 1 ? took_us + static_cast<double>(result->engine_ns()) / 1e3 : took_us;
}

std::vector<std::byte> plausible_bytes(engine::ElementType type,
                                       std::span<const std::int64_t> dims) {
  std::vector<std::byte> bytes(engine::size_bytes(type, dims).value_or(0));
  if (type != engine::ElementType::kFloat) return bytes;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> unit(0, 1);
  for (std::size_t i = 0; i + sizeof(float) <= bytes.size(); i += sizeof(float)) {
    const float x = unit(random);
    std::memcpy(bytes.data() + i, &x, sizeof x);
  }
  return bytes;
}

std::vector<std::vector<std::byte>> plausible_inputs(const Graph& graph) {
  std::vector<std::vector<std::byte>> memory;
  for (const int i : graph.inputs) {
    const Tensor& t = graph.tensors[at(i)];
    memory.push_back(plausible_bytes(static_cast<engine::ElementType>(t.element_type), t.shape));
  }
  return memory;
}

std::vector<engine::InputView> input_views(const Graph& graph,
                                           std::span<const std::vector<std::byte>> memory) {
  std::vector<engine::InputView> views;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const Tensor& t = graph.tensors[at(graph.inputs[i])];
    views.push_back({static_cast<engine::ElementType>(t.element_type), t.shape, memory[i], {}});
  }
  return views;
}

Result<profile::NodeRows> measure_rows(engine::Engine& engine, const Graph& graph,
                                       const RowsOptions& asked, const std::atomic<bool>& stop,
                                       const std::function<void(const std::string&)>& progress) {
  RowsOptions options = asked;
  if (engine.device() != "cpu")
    options.threads = 0;  // a thread's own time does not tell a device's
  profile::NodeRows node;
  const std::string nothing = call_probe();
  engine::OpenOptions open;
  open.intra_op_threads = options.threads;
  OB_TRY(const auto probe, engine.open_bytes(std::as_bytes(std::span(nothing)), open));
  OB_TRY(node.call_us, least_us(*probe, options));
  double whole_us = 0;
  for (int u = 0; u < static_cast<int>(graph.units.size()); ++u) {
    const auto& unit = graph.units[at(u)];
    profile::RowCurve curve;
    const std::set<int> points = row_points(graph.main_output(unit).rows);
    std::vector<double> cold_us;  // of the first and the last point
    for (int rows : points) {
      if (stop) return error(ErrorKind::kCancelled, "interrupted while measuring unit ({})", u);
      progress(
          fmt::format("unit {} of {} ({}), {} rows", u + 1, graph.units.size(), unit.name, rows));
      const bool end = rows == *points.begin() || rows == *points.rbegin();
      auto time = time_band(engine, graph, u, rows, options, end);
      if (!time)
        return tl::make_unexpected(
            std::move(time).error().while_doing("measuring unit " + unit.name));
      curve.rows.push_back(rows);
      curve.time_us.push_back(time->us);
      if (end) cold_us.push_back(time->cold_us);
    }
    add_cold(curve, graph.ops[at(unit.heaviest_op)].weights_by_row, cold_us.front(),
             cold_us.back());
    curve = profile::without_call(std::move(curve), node.call_us);
    whole_us += curve.time_us.back();
    // Two units may share a name, as two operators may: the heavier one keeps it.
    auto& kept = node.units[unit.name];
    if (kept.rows.empty() || kept.time_us.back() < curve.time_us.back()) kept = std::move(curve);
  }
  node.flops_per_s = std::max(1.0, graph.flops() / std::max(1.0, whole_us) * 1e6);
  return node;
}

Result<profile::NodeRows> known_rows(engine::Engine& engine, const Graph& graph,
                                     const BandOptions& bands, const std::atomic<bool>& stop) {
  constexpr std::int64_t kAge_s = std::int64_t{24} * 3600;
  BandStore* const store = bands.store.get();
  Sha256 key;
  if (store != nullptr) {
    const std::string text = "profile\n" + band_context(engine, graph, bands);
    key = sha256(std::as_bytes(std::span(text)));
    // {"measured_s": when, by the system's clock; "node": the profile}
    const auto kept = nlohmann::json::parse(store->find_text(key).value_or(""), nullptr, false);
    if (kept.is_object() && kept.contains("node") &&
        std::abs(now_s() - kept.value("measured_s", std::int64_t{0})) < kAge_s)
      if (auto node = profile::node_rows_from_json(kept["node"], "kept")) return node;
  }
  const RowsOptions brief{
      .seconds_per_point = 0.01, .threads = bands.threads, .block_channels = bands.channels};
  OB_TRY(auto node, measure_rows(engine, graph, brief, stop, [](const std::string&) {}));
  node.name = "node";  // whoever asks has its own name for it
  const nlohmann::json kept{{"measured_s", now_s()}, {"node", profile::as_json(node)}};
  if (store != nullptr)
    if (const auto added = store->add_text(key, kept.dump()); !added)
      log_warn("profile not kept reason=\"{}\"", added.error().message);
  return node;
}

}  // namespace outboard::split::exec
