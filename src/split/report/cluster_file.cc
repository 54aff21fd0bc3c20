// SPDX-License-Identifier: Apache-2.0
#include "split/report/cluster_file.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "profile/json/reader.h"
#include "profile/json/rows.h"

namespace outboard::split {
namespace {

using nlohmann::json;
using profile::ObjectReader;

Result<std::string> read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error(ErrorKind::kNotFound, "the file ({}) cannot be read", path);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

Result<RateTrace> variation_from_json(ObjectReader& read) {
  RateTrace trace;
  if (const json* varies = read.object("varies")) {
    ObjectReader v(*varies, read.place_of("varies"));
    const auto seed = static_cast<std::uint64_t>(v.integer("seed", 1, 0, 1'000'000'000));
    const double sd = v.number("sd", std::nullopt, 0, 10);
    const double coherence_ms = v.number("coherence_ms", 20.0, 0, 1e6);
    const double step_ms = v.number("step_ms", 1.0, 0.01, 1e6);
    const double length_ms = v.number("length_ms", 10000.0, 1, 1e6);
    OB_CHECK_OK(v.finish());
    if (length_ms / step_ms > 1e6)
      return error(ErrorKind::kInvalid,
                   "{} has more than a million steps ({} ms in steps of {} ms)",
                   read.place_of("varies"), length_ms, step_ms);
    return gauss_markov(seed, sd, coherence_ms * 1e3, step_ms * 1e3, length_ms * 1e3);
  }
  if (const json* given = read.object("trace")) {
    ObjectReader t(*given, read.place_of("trace"));
    trace.start_us = t.numbers("start_ms");
    trace.factor = t.numbers("factor");
    trace.period_us = t.number("period_ms", 0.0, 0, 1e9) * 1e3;
    if (trace.start_us.empty() || trace.start_us.size() != trace.factor.size() ||
        trace.start_us[0] != 0)
      t.fail("start_ms", "must begin at 0 and have as many numbers as factor");
    for (std::size_t i = 0; i < trace.start_us.size(); ++i) {
      if (i > 0 && trace.start_us[i] <= trace.start_us[i - 1]) t.fail("start_ms", "must ascend");
      if (i < trace.factor.size() && !(trace.factor[i] > 0)) t.fail("factor", "must be positive");
    }
    OB_CHECK_OK(t.finish());
    for (double& s : trace.start_us) s *= 1e3;
    if (trace.period_us > 0 && trace.period_us <= trace.start_us.back())
      return error(ErrorKind::kInvalid, "{}.period_ms ({}) must be past the last start_ms",
                   read.place_of("trace"), trace.period_us / 1e3);
  }
  return trace;
}

profile::Link link_fields(ObjectReader& read) {
  profile::Link link;
  link.delay_us = read.number("delay_us", std::nullopt, 0, 1e9);
  link.rate_bytes_per_s = read.number("rate_bits_per_s", std::nullopt, 1, 1e15) / 8;
  return link;
}

Result<void> add_node(const json& given, const std::string& place, const std::string& folder,
                      bool addresses_only, ClusterFile& file) {
  json merged = given;
  if (given.is_object() && given.contains("profile") && given["profile"].is_string()) {
    const std::string path =
        (std::filesystem::path(folder) / given["profile"].get<std::string>()).string();
    OB_TRY(const std::string text, read_text(path));
    OB_TRY(merged, profile::parse_json(text, path));
    if (!merged.is_object())
      return error(ErrorKind::kInvalid, "the profile ({}) must be an object", path);
    for (const auto& [key, value] : given.items())
      if (key != "profile") merged[key] = value;
  }
  const bool measured = merged.is_object() && merged.contains("flops_per_s");
  if (!measured && addresses_only && merged.is_object()) merged["flops_per_s"] = 1e9;
  ObjectReader read(merged, place);
  OB_TRY(auto node, profile::node_rows_fields(read));
  file.addresses.push_back(read.text("address", std::string()));
  file.paces.push_back(read.number("pace", 0.0, 0, 16));
  OB_CHECK_OK(read.finish());
  file.measured_nodes.push_back(measured ? 1 : 0);
  file.cluster.nodes.push_back(std::move(node));
  return {};
}

int index_of(const Cluster& cluster, const std::string& name) {
  for (int i = 0; i < cluster.size(); ++i)
    if (cluster.node(i).name == name) return i;
  return -1;
}

Result<void> read_links(ObjectReader& read, bool addresses_only, ClusterFile& file) {
  Cluster& c = file.cluster;
  const auto n = c.nodes.size();
  c.links.assign(n * n, {});
  file.rates.assign(n * n, {});
  std::vector<char> known(n * n, 0);
  if (const json* all = read.object("link")) {
    ObjectReader l(*all, read.place_of("link"));
    const profile::Link link = link_fields(l);
    OB_TRY(const RateTrace trace, variation_from_json(l));
    OB_CHECK_OK(l.finish());
    c.links.assign(n * n, link);
    file.rates.assign(n * n, trace);
    known.assign(n * n, 1);
  }
  for (const auto& [given, place] : read.elements("links")) {
    ObjectReader l(*given, place);
    const std::string from = l.text("from"), to = l.text("to");
    const profile::Link link = link_fields(l);
    const bool both = l.flag("both_ways", true);
    OB_TRY(const RateTrace trace, variation_from_json(l));
    const int a = index_of(c, from), b = index_of(c, to);
    if (a < 0) l.fail("from", "is no node of this cluster");
    if (b < 0) l.fail("to", "is no node of this cluster");
    if (a >= 0 && a == b) l.fail("to", "must be another node than from");
    OB_CHECK_OK(l.finish());
    const auto set = [&](int i, int j) {
      const auto at = static_cast<std::size_t>(i) * n + static_cast<std::size_t>(j);
      c.links[at] = link;
      file.rates[at] = trace;
      known[at] = 1;
    };
    set(a, b);
    if (both) set(b, a);
  }
  file.measured_links = known;
  if (addresses_only) {
    for (std::size_t i = 0; i < n * n; ++i)
      if (!known[i]) c.links[i] = {100, 125e6};
    return {};
  }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      if (i != j && !known[i * n + j])
        return error(
            ErrorKind::kInvalid,
            "the cluster says nothing about the link from ({}) to ({}): give it in links, or all "
            "links in link",
            c.nodes[i].name, c.nodes[j].name);
  return {};
}

}  // namespace

Result<ClusterFile> cluster_from_text(std::string_view text, const std::string& path,
                                      bool addresses_only) {
  OB_TRY(const json document, profile::parse_json(text, path));
  ObjectReader read(document, "");
  ClusterFile file;
  const auto folder = std::filesystem::path(path).parent_path().string();
  for (const auto& [given, place] : read.elements("nodes")) {
    OB_CHECK_OK(add_node(*given, place, folder, addresses_only, file));
    const std::string& name = file.cluster.nodes.back().name;
    if (index_of(file.cluster, name) + 1 < file.cluster.size())
      return error(ErrorKind::kInvalid, "{}.name ({}) is there already", place, name);
  }
  constexpr std::size_t kMaxNodes = 64;
  if (file.cluster.nodes.empty() || file.cluster.nodes.size() > kMaxNodes)
    return error(ErrorKind::kInvalid, "nodes ({}) must be from 1 to {}", file.cluster.nodes.size(),
                 kMaxNodes);
  const std::string host = read.text("host", file.cluster.nodes[0].name);
  file.cluster.host = index_of(file.cluster, host);
  if (file.cluster.host < 0) read.fail("host", "is no node of this cluster");
  OB_CHECK_OK(read_links(read, addresses_only, file));
  OB_CHECK_OK(read.finish());
  return file;
}

Result<ClusterFile> read_cluster(const std::string& path, bool addresses_only) {
  OB_TRY(const std::string text, read_text(path));
  auto file = cluster_from_text(text, path, addresses_only);
  if (!file)
    return tl::make_unexpected(
        std::move(file).error().while_doing("reading the cluster (" + path + ")"));
  return file;
}

Result<Channel> read_channel(const std::string& path) {
  OB_TRY(const std::string text, read_text(path));
  OB_TRY(const json document, profile::parse_json(text, path));
  ObjectReader read(document, "");
  Channel channel;
  channel.rate_bytes_per_s = read.number("rate_bits_per_s", std::nullopt, 1, 1e15) / 8;
  OB_TRY(channel.trace, variation_from_json(read));
  OB_CHECK_OK(read.finish());
  return channel;
}

double service_reliability(const Channel& channel, double size_bytes, double inference_us,
                           double deadline_us, int samples) {
  const double period = channel.trace.period_us > 0 ? channel.trace.period_us
                        : channel.trace.empty()     ? 1
                                                    : channel.trace.start_us.back() + 1;
  int met = 0;
  for (int i = 0; i < samples; ++i) {
    const double start = period * i / samples;
    const double uplink = channel.trace.end_us(start, size_bytes, channel.rate_bytes_per_s) - start;
    met += uplink + inference_us <= deadline_us ? 1 : 0;
  }
  return static_cast<double>(met) / samples;
}

}  // namespace outboard::split
