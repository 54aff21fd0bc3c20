// SPDX-License-Identifier: Apache-2.0
// The client's connections, control requests and uploads.
#include "wire/client.h"

#include <sys/random.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/cursor.h"
#include "wire/client_internal.h"
#include "wire/transport/ring_stream.h"

namespace outboard::wire {
namespace {

std::uint64_t random_number() {
  std::uint64_t number = 0;
  OB_CHECK(::getrandom(&number, sizeof number, 0) == static_cast<ssize_t>(sizeof number));
  return number;
}

// Within this machine nothing is to be gained, unless a transfer shows that the address is but the
// near end of a tunnel. Elsewhere 1 Gbps is assumed until the first transfer.
double prior_rate(const Endpoint& endpoint) {
  const bool is_near = endpoint.kind == Endpoint::Kind::kUnix || endpoint.host == "localhost" ||
                       endpoint.host == "::1" || endpoint.host.starts_with("127.");
  return is_near ? std::numeric_limits<double>::infinity() : 125e6;
}

}  // namespace

Client::Client(Access access, ClientOptions options)
    : connector_(std::move(access)),
      options_(std::move(options)),
      client_number_(random_number()),
      client_id_(fmt::format("{:016x}", client_number_)),
      next_connection_(client_number_),
      rates_(prior_rate(connector_.access().endpoint), options_.fixed_link_bytes_per_s) {}

Client::~Client() = default;

void Client::count_frames(Pooled& pooled) {
  const std::uint64_t sent = pooled.connection.frames_sent(),
                      received = pooled.connection.frames_received();
  frames_sent_ += sent - std::exchange(pooled.counted_sent, sent);
  frames_received_ += received - std::exchange(pooled.counted_received, received);
}

Result<std::unique_ptr<Client::Pooled>> Client::connect(CancelToken* cancel) {
  OB_TRY(auto pooled, connect_once(options_.shared_memory && !descriptors_get_lost_, cancel));
  if (pooled) return pooled;
  descriptors_get_lost_ = true;
  return connect_once(false, cancel);
}

// nullptr: the server's descriptor did not arrive.
Result<std::unique_ptr<Client::Pooled>> Client::connect_once(bool offer_shared_memory,
                                                             CancelToken* cancel, bool for_runs) {
  OB_TRY(auto stream, options_.connect ? options_.connect()
                                       : connector_.connect(options_.connect_timeout, cancel));
  auto pooled = std::make_unique<Pooled>(std::move(stream));
  pooled->next_request = (next_connection_.fetch_add(1) << 32) + 1;
  Connection& connection = pooled->connection;
  const CancelWatch watch(cancel, [&connection](bool) { connection.shut_down(); });
  if (for_runs) connection.look_before_sleeping(looking_slots_);
  DescriptorPassing* const descriptors = connection.stream().descriptors();
  connection.stream().set_stall_timeout(options_.stall_timeout);
  Hello hello{options_.software, client_id_, options_.features};
  hello.features.push_back({kFeatureHop, {}});
  const Access& access = connector_.access();
  if (offer_shared_memory && descriptors != nullptr) {
    if (auto link = SharedLink::make(shared_budget_)) pooled->shared = std::move(*link);
  }
  const FrameHeader header{.kind = FrameKind::kHello, .request_id = pooled->next_request++};
  // Within this machine memory is shared; where descriptors do not arrive, it is not within it.
  const bool offers_coding = for_runs && options_.coding != CodingMode::kOff && !pooled->shared &&
                             (descriptors == nullptr || descriptors_get_lost_);
  if (offers_coding) {
    hello.features.push_back({kFeatureTensorCoding, encode(make_offer(meter_))});
    hello.features.push_back({kFeatureKnownTensors, {}});
  }
  if (access.is_secured()) {
    OB_CHECK_OK(greet_ahead(*pooled, header, std::move(hello)));
    return pooled;
  }
  if (pooled->shared) {
    hello.features.push_back({kFeatureSharedMemory, pooled->shared->feature_data()});
    hello.features.push_back({kFeatureRings, {}});
    OB_CHECK_OK(connection.send_with(header, encode(hello), pooled->shared->descriptor()));
    pooled->shared->descriptor_sent();
  } else {
    OB_CHECK_OK(connection.send(header, encode(hello)));
  }
  OB_TRY(const std::string payload,
         receive_reply(*pooled, header.request_id, FrameKind::kHelloReply));
  OB_TRY(HelloReply reply, decode_hello_reply(as_byte_span(payload)));
  const Feature* accepted = find_feature(reply.features, kFeatureSharedMemory);
  if (accepted == nullptr) pooled->shared.reset();
  if (pooled->shared &&
      !pooled->shared->take_first_region(descriptors->take_descriptor(), accepted->data))
    return nullptr;
  if (pooled->shared && find_feature(reply.features, kFeatureRings) != nullptr)
    OB_CHECK_OK(agree_on_rings(*pooled));
  if (offers_coding) agree_on_coding(*pooled, reply);
  transport_ = pooled->shared ? "shared memory" : descriptors != nullptr ? "unix" : "tcp";
  const std::lock_guard lock(mutex_);
  hello_ = std::move(reply);
  return pooled;
}

// A side without memory for a ring goes on as before.
Result<void> Client::agree_on_rings(Pooled& pooled) {
  Connection& connection = pooled.connection;
  auto own = make_ring_region();
  if (!own) return {};
  const std::uint64_t request = pooled.next_request++;
  OB_CHECK_OK(connection.send_with({.kind = FrameKind::kRings, .request_id = request}, {},
                                   own->descriptor()));
  if (const auto reply = receive_reply(pooled, request, FrameKind::kRings); !reply) {
    if (!std::exchange(pooled.reported_error, false)) return tl::make_unexpected(reply.error());
    return {};
  }
  if (connection.buffered_bytes() > 0)
    return error(ErrorKind::kInvalid, "bytes came behind rings, before they were in use");
  OB_TRY(PeerRegion peer, map_ring_region(connection.stream().descriptors()->take_descriptor()));
  connection.use_rings(std::move(*own), std::move(peer));
  return {};
}

// Data that cannot be read is a feature declined.
void Client::agree_on_coding(Pooled& pooled, const HelloReply& reply) {
  const Feature* coding = find_feature(reply.features, kFeatureTensorCoding);
  const Feature* known = find_feature(reply.features, kFeatureKnownTensors);
  if (coding == nullptr) return;
  const auto offer = decode_coding_offer(as_byte_span(coding->data));
  const auto limit = known == nullptr ? Result<std::uint64_t>(std::uint64_t{0})
                                      : decode_known_limit(as_byte_span(known->data));
  if (!offer || !limit) return;
  pooled.coded = std::make_unique<CodedLink>(pooled.connection, meter_, *offer, *limit, rates_,
                                             options_.coding);
}

// Over a verified connection: the hello, with the token. Its handshake has cost a round trip
// already, so what the server will answer is taken for what it answered before, and the request
// leaves without waiting for it.
Result<void> Client::greet_ahead(Pooled& pooled, const FrameHeader& header, Hello hello) {
  const std::string& token = connector_.access().token;
  if (!token.empty()) hello.features.push_back({kFeatureAuthentication, token});
  pooled.hello_ahead = header.request_id;
  pooled.connection.hold(header, encode(hello));
  transport_ = "tls";
  {
    const std::lock_guard lock(mutex_);
    if (!hello_.server_id.empty()) {
      agree_on_coding(pooled, hello_);
      return {};
    }
  }
  OB_CHECK_OK(pooled.connection.flush());
  OB_CHECK_OK(settle(pooled));
  const std::lock_guard lock(mutex_);
  agree_on_coding(pooled, hello_);
  return {};
}

// Receives the replies to what was sent ahead. An error is the connection's end.
Result<void> Client::settle(Pooled& pooled) {
  // Both first: receiving a reply settles what is still ahead.
  const std::uint64_t hello_id = std::exchange(pooled.hello_ahead, 0),
                      open_id = std::exchange(pooled.open_ahead, 0);
  if (hello_id != 0) {
    auto payload = receive_reply(pooled, hello_id, FrameKind::kHelloReply);
    pooled.reported_error = false;
    if (!payload) return tl::make_unexpected(std::move(payload).error());
    OB_TRY(HelloReply reply, decode_hello_reply(as_byte_span(*payload)));
    const std::lock_guard lock(mutex_);
    const bool is_as_before = hello_.server_id.empty() || hello_.features == reply.features;
    hello_ = std::move(reply);
    if (!is_as_before) {
      pooled.from_pool = true;  // so that it is tried once more, with what is known now
      return error(ErrorKind::kDisconnected, "the server offers other features than before");
    }
  }
  if (open_id != 0) {
    auto payload = receive_reply(pooled, open_id, FrameKind::kSessionOpened);
    pooled.reported_error = false;
    if (!payload) return tl::make_unexpected(std::move(payload).error());
  }
  return {};
}

Result<std::shared_ptr<Connection>> Client::dedicate() {
  OB_TRY(auto pooled, connect_once(false, nullptr, false));
  OB_CHECK_OK(settle(*pooled));
  std::shared_ptr<Pooled> shared = std::move(pooled);
  Connection* connection = &shared->connection;
  connection->stream().set_stall_timeout(options_.control_timeout);
  return std::shared_ptr<Connection>(std::move(shared), connection);
}

Result<Client::Lease> Client::acquire(bool fresh, CancelToken* cancel) {
  while (!fresh) {
    std::unique_ptr<Pooled> pooled;
    {
      const std::lock_guard lock(mutex_);
      if (idle_.empty()) break;
      pooled = std::move(idle_.back());
      idle_.pop_back();
    }
    // Nothing may have come while it was idle: whatever did is an end, or out of step.
    std::byte probe;
    const auto ahead = pooled->connection.stream().peek(std::span(&probe, 1));
    if (ahead && *ahead == 0 && pooled->connection.buffered_bytes() == 0) {
      pooled->from_pool = true;
      return Lease(*this, std::move(pooled));
    }
    count_frames(*pooled);
  }
  OB_TRY(auto pooled, connect(cancel));
  return Lease(*this, std::move(pooled));
}

void Client::release(std::unique_ptr<Pooled> pooled) {
  pooled->moved_bytes.reset();
  std::vector<std::uint32_t> to_close;
  {
    const std::lock_guard lock(mutex_);
    for (const std::uint32_t handle : pooled->open_handles) {
      if (closed_handles_.contains(handle)) to_close.push_back(handle);
    }
    if (to_close.empty()) {
      count_frames(*pooled);
      idle_.push_back(std::move(pooled));
      return;
    }
  }
  for (const std::uint32_t handle : to_close) {
    pooled->open_handles.erase(handle);
    if (!pooled->connection.send({.kind = FrameKind::kSessionClose}, encode_session_close(handle)))
      return;
  }
  count_frames(*pooled);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(pooled));
}

void Client::close_handle(std::uint32_t handle) {
  std::vector<std::unique_ptr<Pooled>> affected;
  {
    const std::lock_guard lock(mutex_);
    closed_handles_.insert(handle);
    const auto first = std::partition(idle_.begin(), idle_.end(), [&](const auto& pooled) {
      return !pooled->open_handles.contains(handle);
    });
    affected.assign(std::move_iterator(first), std::move_iterator(idle_.end()));
    idle_.erase(first, idle_.end());
  }
  for (auto& pooled : affected) release(std::move(pooled));
}

void Client::drop_idle() {
  const std::lock_guard lock(mutex_);
  idle_.clear();
}

std::uint64_t Client::frames_sent() const { return frames_sent_; }
std::uint64_t Client::frames_received() const { return frames_received_; }

// ---- exchanges
// --------------------------------------------------------------------------------------

// The next frame that answers `request_id`; heartbeats are taken as life and skipped. An error
// frame is the Error that it carries.
Result<FrameHeader> Client::receive_reply_header(Pooled& pooled, std::uint64_t request_id,
                                                 FrameKind expected) {
  OB_CHECK_OK(settle(pooled));
  Connection& connection = pooled.connection;
  for (;;) {
    auto received = connection.receive_header();
    if (!received && received.error().kind == ErrorKind::kTimeout && pooled.moved_bytes) {
      // The system takes more at once than a slow link carries: the request may still be leaving.
      const std::uint64_t moved = connection.moved_bytes();
      const auto before = std::exchange(pooled.moved_bytes, moved);
      if (before && moved >= *before + Stream::kProgressBytes) continue;
    }
    OB_TRY(const FrameHeader header, std::move(received));
    if (pooled.token != nullptr) pooled.token->heard(Clock::monotonic().now().count());
    if (header.kind == FrameKind::kHeartbeat) {
      OB_CHECK_OK(connection.skip(header.length));
      continue;
    }
    if (header.kind == FrameKind::kTensorsWanted && expected == FrameKind::kRunResult &&
        pooled.coded && header.request_id == request_id)
      return header;
    if (header.kind == FrameKind::kSharedRegion && pooled.shared) {
      OB_CHECK_OK(pooled.shared->receive_region(connection, header));
      continue;
    }
    if (header.request_id != request_id)
      return error(ErrorKind::kInvalid,
                   "reply to request ({}) came where the reply to ({}) was expected",
                   header.request_id, request_id);
    if (header.kind == expected) return header;
    if (header.kind != FrameKind::kError)
      return error(ErrorKind::kInvalid, "frame of kind {} ({}) came where ({}) was expected",
                   static_cast<int>(header.kind), name_of(header.kind), name_of(expected));
    OB_TRY(const std::string payload, connection.read_string(header.length));
    OB_TRY(Error reported, decode_error(as_byte_span(payload)));
    // Told by the peer over a connection that works: the exchange itself is complete.
    pooled.reported_error = true;
    return tl::make_unexpected(std::move(reported));
  }
}

Result<std::string> Client::receive_reply(Pooled& pooled, std::uint64_t request_id,
                                          FrameKind expected) {
  OB_TRY(const FrameHeader header, receive_reply_header(pooled, request_id, expected));
  return pooled.connection.read_string(header.length);
}

// One control request and its reply.
Result<std::string> Client::exchange(FrameKind kind, std::string_view payload, FrameKind expected) {
  return with_connection([&](Pooled& pooled) {
    return exchange_on(pooled, kind, payload, expected, options_.control_timeout);
  });
}

Result<std::string> Client::exchange_on(Pooled& pooled, FrameKind kind, std::string_view payload,
                                        FrameKind expected,
                                        std::chrono::milliseconds stall_timeout) {
  const std::uint64_t request = pooled.next_request++;
  Stream& stream = pooled.connection.stream();
  OB_CHECK_OK(pooled.connection.send({.kind = kind, .request_id = request}, payload));
  stream.set_stall_timeout(stall_timeout);
  auto reply = receive_reply(pooled, request, expected);
  stream.set_stall_timeout(options_.stall_timeout);
  return reply;
}

Result<HelloReply> Client::hello() {
  OB_TRY(Lease lease, acquire(false));
  OB_CHECK_OK(lease->connection.flush());
  OB_CHECK_OK(settle(*lease.held));
  lease.in_step();
  const std::lock_guard lock(mutex_);
  return hello_;
}

Result<std::chrono::nanoseconds> Client::ping(std::size_t payload_bytes) {
  const std::string payload(std::min<std::size_t>(payload_bytes, length_limit(FrameKind::kPing)),
                            '\0');
  OB_CHECK_OK(hello());  // so that connecting is not counted
  const Nanoseconds start = Clock::monotonic().now();
  OB_CHECK_OK(exchange(FrameKind::kPing, payload, FrameKind::kPong));
  return Clock::monotonic().now() - start;
}

Result<ProbeAccount> Client::probe(std::size_t sent_bytes, std::size_t received_bytes) {
  const auto most = [](FrameKind kind, std::size_t record) { return length_limit(kind) - record; };
  std::string payload = encode(Probe{static_cast<std::uint32_t>(
      std::min<std::uint64_t>(received_bytes, most(FrameKind::kProbeReply, kProbeReplyBytes)))});
  payload.append(std::min<std::uint64_t>(sent_bytes, most(FrameKind::kProbe, kProbeBytes)), '\0');
  return with_connection([&](Pooled& pooled) { return probe_on(pooled, payload); });
}

Result<ProbeAccount> Client::probe_on(Pooled& pooled, std::string_view payload) {
  Connection& connection = pooled.connection;
  const std::uint64_t id = pooled.next_request++;
  const std::uint64_t sent_before = connection.bytes_sent(),
                      received_before = connection.bytes_received();
  const Nanoseconds start = Clock::monotonic().now();
  OB_CHECK_OK(connection.send({.kind = FrameKind::kProbe, .request_id = id}, payload));
  OB_TRY(const FrameHeader header, receive_reply_header(pooled, id, FrameKind::kProbeReply));
  const Nanoseconds first_byte = Clock::monotonic().now();
  if (header.length < kProbeReplyBytes)
    return error(ErrorKind::kInvalid, "a probe's reply ({} bytes) must have at least {}",
                 header.length, kProbeReplyBytes);
  OB_TRY(const std::string record, connection.read_string(kProbeReplyBytes));
  OB_TRY(const ProbeReply reply, decode_probe_reply(as_byte_span(record)));
  OB_CHECK_OK(connection.skip(connection.payload_left()));
  return ProbeAccount{
      .until_reply_ns = static_cast<std::uint64_t>((first_byte - start).count()),
      .receive_ns = static_cast<std::uint64_t>((Clock::monotonic().now() - first_byte).count()),
      .bytes_sent = connection.bytes_sent() - sent_before,
      .bytes_received = connection.bytes_received() - received_before,
      .server = reply};
}

namespace {

Result<ModelState> state_of(const ModelManifest& manifest, std::string_view reply) {
  OB_TRY(ModelState state, decode_model_state(as_byte_span(reply)));
  if (state.have_bytes.size() != manifest.files.size())
    return error(ErrorKind::kInvalid, "state of a model must name {} files, not {}",
                 manifest.files.size(), state.have_bytes.size());
  return state;
}

}  // namespace

Result<ModelState> Client::query(const ModelManifest& manifest) {
  OB_TRY(const std::string reply,
         exchange(FrameKind::kModelQuery, encode(manifest), FrameKind::kModelState));
  return state_of(manifest, reply);
}

Result<std::string> Client::status() {
  return exchange(FrameKind::kStatus, {}, FrameKind::kStatusReply);
}

Result<void> Client::upload(const ModelPackage& package, const Progress& progress) {
  // All on one connection: the server knows the files from the query that came on it.
  OB_TRY(Lease lease, acquire(/*fresh=*/true));
  const ModelManifest& manifest = package.manifest();
  OB_TRY(const std::string reply, exchange_on(*lease.held, FrameKind::kModelQuery, encode(manifest),
                                              FrameKind::kModelState, options_.control_timeout));
  OB_TRY(const ModelState state, state_of(manifest, reply));
  std::uint64_t done = 0;
  for (const std::uint64_t bytes : state.have_bytes) done += bytes;
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    OB_CHECK_OK(upload_file(*lease.held, package, i, state.have_bytes[i], done, progress));
  }
  lease.in_step();
  return {};
}

Result<void> Client::upload_file(Pooled& pooled, const ModelPackage& package, std::size_t index,
                                 std::uint64_t have, std::uint64_t& done,
                                 const Progress& progress) {
  const ModelFile& file = package.manifest().files[index];
  std::vector<std::byte> piece(std::min<std::uint64_t>(limits::kUploadChunkBytes, file.size_bytes));
  while (have < file.size_bytes) {
    if (progress && !progress(done, package.total_bytes()))
      return error(ErrorKind::kCancelled, "upload of model ({}) was cancelled",
                   package.id().hex().substr(0, 12));
    OB_TRY(const std::size_t n, package.read_at(index, have, piece));
    if (n == 0)
      return error(ErrorKind::kInvalid, "model file ({}) shrank while it was uploaded", file.name);
    const std::string record = encode(UploadChunk{file.sha256, file.size_bytes, have});
    const std::array<iovec, 2> parts{
        {{const_cast<char*>(record.data()), record.size()}, {piece.data(), n}}};
    const std::uint64_t request = pooled.next_request++;
    pooled.moved_bytes = pooled.connection.moved_bytes();
    OB_CHECK_OK(
        pooled.connection.send({.kind = FrameKind::kUploadChunk, .request_id = request}, parts));
    pooled.connection.stream().set_stall_timeout(options_.control_timeout);
    auto reply = receive_reply(pooled, request, FrameKind::kUploadState);
    pooled.connection.stream().set_stall_timeout(options_.stall_timeout);
    if (!reply)
      return tl::make_unexpected(std::move(reply).error().while_doing("uploading a model"));
    OB_TRY(const UploadState state, decode_upload_state(as_byte_span(*reply)));
    // Another client may upload the same file: the server then has more than we sent.
    if (state.have_bytes < have + n || state.have_bytes > file.size_bytes)
      return error(ErrorKind::kInvalid, "server has {} bytes of a file after {} were sent",
                   state.have_bytes, have + n);
    done += state.have_bytes - have;
    have = state.have_bytes;
  }
  if (progress && !progress(done, package.total_bytes()))
    return error(ErrorKind::kCancelled, "upload of model ({}) was cancelled",
                 package.id().hex().substr(0, 12));
  return {};
}

}  // namespace outboard::wire
