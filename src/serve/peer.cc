// SPDX-License-Identifier: Apache-2.0
// The connection's life and every request but the Run, which peer_run.cc has.
#include "serve/peer.h"

#include <algorithm>
#include <array>
#include <exception>

#include "base/limits.h"
#include "base/log.h"
#include "serve/convert.h"
#include "wire/transport/ring_stream.h"

namespace outboard::serve {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

constexpr std::size_t kUploadsPerConnection = 8;

Error draining_error() {
  return {ErrorKind::kOverloaded, "the server is draining; it takes no new requests", 0};
}

}  // namespace

Peer::Peer(Shared& shared, Tenant& tenant, std::unique_ptr<wire::Stream> stream,
           std::uint64_t number)
    : shared_(shared),
      tenant_(tenant),
      number_(number),
      connection_(std::move(stream)),
      control_(tenant.engine().make_run_control()),
      watched_(connection_, [this] { stop(); }, [this] { return queue_depth(); }) {
  shared_.watcher.add(watched_);
}

Peer::~Peer() {
  for (const auto& part : parts_) shared_.split.abandon(part);
  shared_.watcher.end(watched_);
  shared_.watcher.remove(watched_);
  if (shared_link_) shared_.statistics.shared_memory_connections.fetch_sub(1);
}

void Peer::stop() {
  control_->terminate();
  tenant_.queue().cancel(ticket_);
}

void Peer::serve(const Error* refuse, const Greeted* greeted) {
  // The last wall: no exception (memory, say) may end more than this connection.
  try {
    auto status = shake_hands(refuse, greeted);
    while (status) {
      auto header = connection_.receive_header();
      if (!header) {
        if (header.error().kind == ErrorKind::kTimeout && connection_.buffered_bytes() == 0)
          continue;  // idle
        status = tl::make_unexpected(std::move(header).error());
        break;
      }
      request_id_ = header->request_id;
      shared_.watcher.begin(watched_, request_id_, Clock::monotonic().now());
      status = handle(*header);
      if (shared_.watcher.end(watched_)) control_used_ = true;
      count_bytes();
      count_coding();
    }
    if (!status) say_goodbye(status.error());
  } catch (const std::exception& e) {
    log_error("connection failed connection={} reason=\"{}\"", number_, e.what());
  }
  count_bytes();
}

// Tells a peer that spoke nonsense so, before its connection ends.
void Peer::say_goodbye(const Error& error) {
  const bool gone = error.kind == ErrorKind::kDisconnected;
  log(gone ? LogLevel::kDebug : LogLevel::kInfo, "connection ended connection={} reason=\"{}\"",
      number_, error.message);
  if (error.kind != ErrorKind::kInvalid && error.kind != ErrorKind::kRefused &&
      error.kind != ErrorKind::kOverloaded)
    return;
  count(&Statistics::bad_connections);
  connection_.stream().set_stall_timeout(limits::kStallTimeout);
  if (!connection_.send({.kind = FrameKind::kError, .request_id = request_id_},
                        wire::encode(error)))
    return;
  // A close with unread bytes would reset the connection, and the error be lost: so a little of
  // what still comes is taken first.
  std::array<std::byte, 4096> sink{};
  const iovec space{sink.data(), sink.size()};
  for (int i = 0; i < 256; ++i)
    if (!connection_.stream().read_some(std::span(&space, 1))) break;
}

Result<wire::Hello> Peer::receive_hello() {
  OB_TRY(const FrameHeader header, connection_.receive_header());
  request_id_ = header.request_id;
  if (header.kind != FrameKind::kHello)
    return error(ErrorKind::kInvalid, "the first frame ({}) must be a hello",
                 wire::name_of(header.kind));
  OB_TRY(const std::string payload, read_payload(header));
  return wire::decode_hello(std::as_bytes(std::span(payload)));
}

Result<void> Peer::shake_hands(const Error* refuse, const Greeted* greeted) {
  connection_.stream().set_stall_timeout(limits::kHandshakeTimeout);
  wire::Hello hello;
  if (greeted != nullptr) {
    request_id_ = greeted->request_id;
    hello = greeted->hello;
  } else {
    OB_TRY(hello, receive_hello());
  }
  if (refuse != nullptr) return tl::make_unexpected(*refuse);
  log_debug("connection opened connection={} client={} software=\"{}\"", number_, hello.client_id,
            hello.software);
  wire::HelloReply answer{
      .software = shared_.settings.software,
      .server_id = shared_.server_id,
      .features = {},  // those that are not known are declined
      .heartbeat_ms = static_cast<std::uint32_t>(limits::kHeartbeatInterval.count()),
      .engine = shared_.engine->name() + " " + shared_.engine->version(),
      .device = shared_.engine->device(),
      .providers = shared_.engine->available_providers()};
  if (greeted != nullptr) answer.features.push_back({wire::kFeatureAuthentication, tenant_.name()});
  tells_hop_ = wire::find_feature(hello.features, wire::kFeatureHop) != nullptr;
  if (tells_hop_) answer.features.push_back({wire::kFeatureHop, {}});
  agree_on_shared_memory(hello, answer);
  agree_on_coding(hello, answer);
  OB_CHECK_OK(reply_to_hello({.kind = FrameKind::kHello, .request_id = request_id_}, answer));
  connection_.stream().set_stall_timeout(limits::kClientStallTimeout);
  connection_.look_before_sleeping(shared_.looking_slots);
  return {};
}

// A descriptor that did not arrive, or that is not what it should be, is a feature declined.
void Peer::agree_on_shared_memory(const wire::Hello& hello, wire::HelloReply& answer) {
  const wire::Feature* offer = wire::find_feature(hello.features, wire::kFeatureSharedMemory);
  wire::DescriptorPassing* const descriptors = connection_.stream().descriptors();
  if (offer == nullptr || descriptors == nullptr || !shared_.settings.shared_memory) return;
  auto link = wire::SharedLink::make(shared_.shared_budget);
  const auto taken = link ? (*link)->take_first_region(descriptors->take_descriptor(), offer->data)
                          : Result<void>(tl::make_unexpected(link.error()));
  if (!taken) {
    log_debug("shared memory declined connection={} reason=\"{}\"", number_, taken.error().message);
    return;
  }
  shared_link_ = std::move(*link);
  same_user_ = descriptors->peer_is_same_user();
  shared_.statistics.shared_memory_connections.fetch_add(1);
  answer.features.push_back({wire::kFeatureSharedMemory, shared_link_->feature_data()});
  if (wire::find_feature(hello.features, wire::kFeatureRings) != nullptr)
    answer.features.push_back({wire::kFeatureRings, {}});
}

Result<void> Peer::reply_to_hello(const FrameHeader& hello, const wire::HelloReply& answer) {
  if (!shared_link_) return reply(hello, FrameKind::kHelloReply, wire::encode(answer));
  shared_.watcher.end(watched_);
  OB_CHECK_OK(
      connection_.send_with({.kind = FrameKind::kHelloReply, .request_id = hello.request_id},
                            wire::encode(answer), shared_link_->descriptor()));
  shared_link_->descriptor_sent();
  return {};
}

Result<void> Peer::handle_region(const FrameHeader& header) {
  if (!shared_link_)
    return error(ErrorKind::kInvalid, "shared memory came, which was not agreed on");
  return shared_link_->receive_region(connection_, header);
}

Result<void> Peer::handle_rings(const FrameHeader& header) {
  if (!shared_link_ || std::exchange(has_rings_, true))
    return error(ErrorKind::kInvalid, "rings came, which were not agreed on, or twice");
  if (connection_.buffered_bytes() > 0)
    return error(ErrorKind::kInvalid, "bytes came behind rings, before they were answered");
  wire::DescriptorPassing& descriptors = *connection_.stream().descriptors();
  auto peer = wire::map_ring_region(descriptors.take_descriptor());
  if (!peer) return reply_error(header, peer.error());
  auto own = wire::make_ring_region();
  if (!own) return reply_error(header, own.error());
  shared_.watcher.end(watched_);  // what it sent would not be in step
  OB_CHECK_OK(connection_.send_with({.kind = FrameKind::kRings, .request_id = header.request_id},
                                    {}, own->descriptor()));
  connection_.use_rings(std::move(*own), std::move(*peer));
  return {};
}

Result<void> Peer::handle(const FrameHeader& header) {
  switch (header.kind) {
    case FrameKind::kRun:
      return handle_run(header);
    case FrameKind::kPing: {
      OB_TRY(const std::string payload, read_payload(header));
      return reply(header, FrameKind::kPong, payload);
    }
    case FrameKind::kProbe:
      return handle_probe(header);
    case FrameKind::kCancel:
      return {};  // of a request that has ended meanwhile
    case FrameKind::kModelQuery:
      return handle_query(header);
    case FrameKind::kUploadChunk:
      return handle_chunk(header);
    case FrameKind::kSessionOpen:
      return handle_open(header);
    case FrameKind::kSessionClose:
      return handle_close(header);
    case FrameKind::kCodingHint:
      return handle_hint(header);
    case FrameKind::kTensorChunk:  // of a Run that was refused before all of it was here
      if (coder_) return connection_.skip(connection_.payload_left());
      return error(ErrorKind::kInvalid, "a tensor came in chunks, which was not agreed on");
    case FrameKind::kSharedRegion:
      return handle_region(header);
    case FrameKind::kSplitAssign:
    case FrameKind::kSplitConnect:
    case FrameKind::kSplitMeasure:
    case FrameKind::kSplitJoin:
      return handle_split(header);
    case FrameKind::kRings:
      return handle_rings(header);
    case FrameKind::kStatus:
      return reply(header, FrameKind::kStatusReply, status_json(shared_, tenant_));
    default:
      return reply_error(header,
                         {ErrorKind::kUnimplemented,
                          fmt::format("this server does not know requests of kind {} ({})",
                                      static_cast<int>(header.kind), wire::name_of(header.kind)),
                          0});
  }
}

Result<void> Peer::handle_probe(const FrameHeader& header) {
  const Nanoseconds start = Clock::monotonic().now();
  if (header.length < wire::kProbeBytes)
    return error(ErrorKind::kInvalid, "the probe's frame ({} bytes) must have at least {}",
                 header.length, wire::kProbeBytes);
  OB_TRY(const std::string record, connection_.read_string(wire::kProbeBytes));
  OB_TRY(const wire::Probe probe, wire::decode_probe(std::as_bytes(std::span(record))));
  OB_CHECK_OK(connection_.skip(connection_.payload_left()));
  const Nanoseconds now = Clock::monotonic().now();
  std::string payload = wire::encode(wire::ProbeReply{
      .receive_ns = static_cast<std::uint64_t>((now - start).count()),
      .wait_ns = static_cast<std::uint64_t>(tenant_.queue().expected_wait().count()),
      .is_draining = shared_.draining});
  payload.append(probe.reply_bytes, '\0');
  return reply(header, FrameKind::kProbeReply, payload);
}

// ---- models
// -----------------------------------------------------------------------------------------

Result<void> Peer::handle_query(const FrameHeader& header) {
  OB_TRY(const std::string payload, read_payload(header));
  OB_TRY(const auto manifest, wire::decode_model_manifest(std::as_bytes(std::span(payload))));
  const auto state = query(manifest);
  if (!state) return reply_error(header, state.error());
  return reply(header, FrameKind::kModelState, wire::encode(*state));
}

Result<wire::ModelState> Peer::query(const wire::ModelManifest& manifest) {
  std::unique_ptr<Store::Upload> upload;
  OB_TRY(auto state, tenant_.store().state(manifest, upload));
  if (upload) {
    uploads_.push_back(std::move(upload));
    if (uploads_.size() > kUploadsPerConnection) uploads_.pop_front();
  }
  return state;
}

Result<void> Peer::handle_chunk(const FrameHeader& header) {
  if (header.length < wire::kUploadChunkBytes)
    return error(ErrorKind::kInvalid, "the chunk's frame ({} bytes) must have at least {}",
                 header.length, wire::kUploadChunkBytes);
  OB_TRY(const std::string record, connection_.read_string(wire::kUploadChunkBytes));
  OB_TRY(const auto chunk, wire::decode_upload_chunk(std::as_bytes(std::span(record))));
  if (shared_.draining) return reply_error(header, draining_error());
  const std::uint64_t size = connection_.payload_left();
  const auto buffer = shared_.buffers.take(std::max<std::uint64_t>(size, 1));
  if (buffer.data() == nullptr)
    return reply_error(header, {ErrorKind::kOverloaded, "the server has no memory left", 0});
  const std::span bytes(buffer.data(), size);
  OB_CHECK_OK(connection_.read(bytes));
  shared_.watcher.received(watched_);
  const auto have = append(chunk, bytes);
  if (!have) return reply_error(header, have.error());
  count(&Statistics::upload_bytes, size);
  return reply(header, FrameKind::kUploadState, wire::encode(wire::UploadState{*have}));
}

Result<std::uint64_t> Peer::append(const wire::UploadChunk& chunk,
                                   std::span<const std::byte> bytes) {
  const auto holds = [&](const std::unique_ptr<Store::Upload>& upload) {
    const auto& files = upload->manifest().files;
    return std::any_of(files.begin(), files.end(),
                       [&](const wire::ModelFile& file) { return file.sha256 == chunk.file; });
  };
  const auto found = std::find_if(uploads_.rbegin(), uploads_.rend(), holds);
  // Its model may have become complete meanwhile, by another client's pieces.
  if (found == uploads_.rend() && tenant_.store().has_file(chunk.file, chunk.file_bytes))
    return chunk.file_bytes;
  if (found == uploads_.rend())
    return error(
        ErrorKind::kInvalid,
        "the chunk's file ({}) must be one of a model that was asked for on this connection",
        chunk.file.hex().substr(0, 12));
  auto have = tenant_.store().append(**found, chunk, bytes);
  // Sessions that nobody uses any more must not keep a store full.
  if (!have &&
      (have.error().kind == ErrorKind::kOverloaded || have.error().kind == ErrorKind::kRefused) &&
      tenant_.sessions().close_idle() > 0)
    have = tenant_.store().append(**found, chunk, bytes);
  if (have && *have == chunk.file_bytes) publish_complete(chunk.file);
  return have;
}

// A file is complete: so may be models that wait for it.
void Peer::publish_complete(const Sha256& file) {
  for (auto i = uploads_.begin(); i != uploads_.end();) {
    const auto& files = (*i)->manifest().files;
    const bool names =
        std::any_of(files.begin(), files.end(), [&](const auto& f) { return f.sha256 == file; });
    bool complete = false;
    if (names) {
      std::unique_ptr<Store::Upload> still_missing;
      const auto state = tenant_.store().state((*i)->manifest(), still_missing);
      complete = state && state->complete;
    }
    i = complete ? uploads_.erase(i) : std::next(i);
  }
}

// ---- sessions
// ---------------------------------------------------------------------------------------

Result<void> Peer::handle_open(const FrameHeader& header) {
  OB_TRY(const std::string payload, read_payload(header));
  OB_TRY(const auto request, wire::decode_session_open(std::as_bytes(std::span(payload))));
  shared_.watcher.received(watched_);
  const auto description = open(request);
  if (!description) return reply_error(header, description.error());
  return reply(header, FrameKind::kSessionOpened, *description);
}

Result<std::string> Peer::open(const wire::SessionOpen& request) {
  if (shared_.draining) return tl::make_unexpected(draining_error());
  if (sessions_.contains(request.handle))
    return error(ErrorKind::kInvalid, "the handle ({}) is in use on this connection",
                 request.handle);
  if (sessions_.size() >= limits::kSessionsPerConnection)
    return error(ErrorKind::kRefused, "the connection has as many sessions as it may ({})",
                 limits::kSessionsPerConnection);
  OB_TRY(const auto options, to_engine(request.options));
  OB_TRY(auto use, tenant_.sessions().open(request.model, options));
  std::string description = use.description();
  sessions_.emplace(request.handle, std::move(use));
  return description;
}

Result<void> Peer::handle_close(const FrameHeader& header) {
  OB_TRY(const std::string payload, read_payload(header));
  OB_TRY(const std::uint32_t handle, wire::decode_session_close(std::as_bytes(std::span(payload))));
  misdescribed_.erase(handle);
  sessions_.erase(handle);  // not answered; a handle that is not open is no harm
  return {};
}

// ---- frames
// -----------------------------------------------------------------------------------------

Result<std::string> Peer::read_payload(const FrameHeader& header) {
  return connection_.read_string(header.length);
}

Result<void> Peer::reply(const FrameHeader& request, FrameKind kind, std::string_view payload) {
  shared_.watcher.end(watched_);  // no heartbeat follows a reply
  return connection_.send({.kind = kind, .request_id = request.request_id}, payload);
}

Result<void> Peer::reply_error(const FrameHeader& request, const Error& error) {
  OB_CHECK_OK(connection_.skip(connection_.payload_left()));
  log_debug("request failed id=r{:016x} connection={} tenant={} kind={} reason=\"{}\"",
            request.request_id, number_, tenant_.name(), wire::name_of(request.kind),
            error.message);
  return reply(request, FrameKind::kError, wire::encode(error));
}

void Peer::count_bytes() {
  const std::uint64_t sent = connection_.bytes_sent(), received = connection_.bytes_received();
  count(&Statistics::bytes_sent, sent - std::exchange(counted_sent_, sent));
  count(&Statistics::bytes_received, received - std::exchange(counted_received_, received));
}

std::uint32_t Peer::queue_depth() const {
  return tenant_.is_local() ? shared_.tenants.queue_depth() : tenant_.queue_depth();
}

void Peer::count(std::atomic<std::uint64_t> Statistics::* what, std::uint64_t by) {
  (shared_.statistics.*what).fetch_add(by, std::memory_order_relaxed);
  (tenant_.statistics().*what).fetch_add(by, std::memory_order_relaxed);
}

}  // namespace outboard::serve
