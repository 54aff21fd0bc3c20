// SPDX-License-Identifier: Apache-2.0
// Requests that make this server a participant of somebody's split inference (docs/split.md).
#include "serve/peer.h"

namespace outboard::serve {

using wire::FrameHeader;
using wire::FrameKind;

split::exec::NodeOptions node_options(const SplitSettings& settings) {
  split::exec::NodeOptions options;
  options.memory_limit_bytes = settings.memory_limit_bytes;
  options.threads = settings.threads;
  options.bands = settings.bands;
  options.connect = settings.connect;
  if (!options.connect)
    options.connect = [](const std::string& address) -> Result<std::shared_ptr<wire::Connection>> {
      return error(ErrorKind::kRefused,
                   "this server does not know the peer ({}); start it with --peers", address);
    };
  return options;
}

Result<void> Peer::handle_split(const FrameHeader& header) {
  OB_TRY(const std::string payload, read_payload(header));
  const auto bytes = std::as_bytes(std::span(payload));
  if (shared_.draining)
    return reply_error(header, {ErrorKind::kOverloaded, "the server is draining", 0});
  if (!tenant_.is_local() && tenant_.name() != shared_.settings.split.tenant)
    return reply_error(
        header, {ErrorKind::kRefused,
                 fmt::format("the tenant ({}) is no peer of this server: `outboard serve --peers` "
                             "takes those with a token of the tenant ({})",
                             tenant_.name(),
                             shared_.settings.split.tenant.empty() ? "that --peers-tenant names"
                                                                   : shared_.settings.split.tenant),
                 0});
  if (header.kind == FrameKind::kSplitJoin) {
    bool linked = false;
    const auto ended = shared_.split.join(bytes, connection_, [&] {
      linked = true;
      return reply(header, FrameKind::kSplitJoined, {});
    });
    if (linked) return error(ErrorKind::kDisconnected, "the link has ended");
    return reply_error(header, ended.error());
  }
  shared_.watcher.received(watched_);
  const auto models = [this](const Sha256& model) -> Result<split::exec::HeldModel> {
    OB_TRY(auto pin, tenant_.store().pin(model));
    std::string path = pin->path();
    return split::exec::HeldModel{std::move(path), std::shared_ptr<PinnedModel>(std::move(pin))};
  };
  split::exec::PlanId built{};
  const auto answer =
      header.kind == FrameKind::kSplitAssign    ? shared_.split.assign(bytes, models, &built)
      : header.kind == FrameKind::kSplitConnect ? shared_.split.connect(bytes)
                                                : shared_.split.measure(bytes, models);
  if (!answer) return reply_error(header, answer.error());
  if (header.kind == FrameKind::kSplitAssign) parts_.push_back(built);
  const auto kind = header.kind == FrameKind::kSplitAssign    ? FrameKind::kSplitReady
                    : header.kind == FrameKind::kSplitConnect ? FrameKind::kSplitConnected
                                                              : FrameKind::kSplitMeasured;
  return reply(header, kind, *answer);
}

}  // namespace outboard::serve
