// SPDX-License-Identifier: Apache-2.0
#include "cli/split_nodes.h"

#include <algorithm>

#include "base/log.h"
#include "cli/servers_file.h"

namespace outboard::cli {
namespace {

using split::exec::Member;
using split::exec::SplitOptions;

constexpr int kCorrections = 2;

wire::ClientOptions client_options() {
  wire::ClientOptions options;
  options.software = "outboard " OUTBOARD_VERSION " split";
  options.connect_timeout = std::chrono::milliseconds(500);
  options.shared_memory = false;
  return options;
}

Member member_of(const std::string& name, const wire::Access& access, double pace) {
  return {name, access.endpoint.to_string(),
          std::make_shared<wire::Client>(access, client_options()), pace};
}

}  // namespace

Result<std::vector<wire::Access>> resolve_peers(const std::vector<std::string>& peers,
                                                bool insecure) {
  std::vector<wire::Access> found;
  for (const auto& peer : peers) {
    auto access = resolve_server(peer, insecure);
    if (!access)
      return tl::make_unexpected(
          std::move(access).error().while_doing("looking up the peer (" + peer + ")"));
    found.push_back(*std::move(access));
  }
  return found;
}

SplitOptions options_of_peers(const std::vector<wire::Access>& peers, double least_gain) {
  SplitOptions options;
  options.least_gain = least_gain;
  options.always = least_gain == 0;
  if (options.always) options.least_budget_us = 2e6;
  options.plan_after_runs = 3;
  options.least_single_us = 3e3;
  options.corrections = kCorrections;
  options.members.push_back({"this node", "", nullptr, 0});
  for (const auto& peer : peers)
    options.members.push_back(member_of(peer.endpoint.to_string(), peer, 0));
  const auto n = options.members.size();
  for (const auto& m : options.members) {
    profile::NodeRows node;
    node.name = m.name;
    node.flops_per_s = 1e9;
    options.cluster.nodes.push_back(node);
  }
  options.cluster.links.assign(n * n, {100, 125e6});
  options.measured_nodes.assign(n, 0);
  options.measured_links.assign(n * n, 0);
  return options;
}

Result<SplitOptions> options_of_cluster(const split::ClusterFile& file, bool insecure) {
  SplitOptions options;
  options.cluster = file.cluster;
  options.host = file.cluster.host;
  options.measured_nodes = file.measured_nodes;
  options.measured_links = file.measured_links;
  options.corrections = kCorrections;
  for (int i = 0; i < file.cluster.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    const std::string& name = file.cluster.node(i).name;
    if (i == file.cluster.host) {
      options.members.push_back({name, "", nullptr, file.paces[k]});
      continue;
    }
    if (file.addresses[k].empty())
      return error(ErrorKind::kInvalid,
                   "the node ({}) has no address; a run needs one of every node but the host",
                   name);
    auto access = resolve_server(file.addresses[k], insecure);
    if (!access)
      return tl::make_unexpected(
          std::move(access).error().while_doing("looking up the node (" + name + ")"));
    options.members.push_back(member_of(name, *access, file.paces[k]));
  }
  return options;
}

std::shared_ptr<split::exec::BandStore> open_bands(const std::string& store) {
  auto bands = split::exec::BandStore::open({.folder = store + "/bands"});
  if (bands) return *std::move(bands);
  log_warn("split bands are not kept reason=\"{}\"", bands.error().message);
  return nullptr;
}

Result<std::shared_ptr<wire::Connection>> connect_to_peer(const std::vector<wire::Access>& peers,
                                                          const std::string& address) {
  const auto found = std::find_if(peers.begin(), peers.end(), [&](const wire::Access& peer) {
    return peer.endpoint.to_string() == address;
  });
  if (found == peers.end())
    return error(ErrorKind::kRefused,
                 "this server was not told of the peer ({}): add it to --peers", address);
  return wire::Client(*found, client_options()).dedicate();
}

}  // namespace outboard::cli
